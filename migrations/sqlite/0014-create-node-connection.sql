CREATE TABLE IF NOT EXISTS node_connection (
  server TEXT NOT NULL,
  connection_id INTEGER NOT NULL,
  client TEXT NOT NULL,
  node TEXT NOT NULL,
  inc_counter INTEGER NOT NULL,
  inc_random INTEGER NOT NULL,
  PRIMARY KEY (server, connection_id)
);
