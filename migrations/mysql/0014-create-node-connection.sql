CREATE TABLE IF NOT EXISTS node_connection (
  server VARCHAR(190) NOT NULL,
  connection_id BIGINT NOT NULL,
  client VARCHAR(190) NOT NULL,
  node VARCHAR(96) NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  PRIMARY KEY (server, connection_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
