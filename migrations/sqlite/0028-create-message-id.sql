CREATE TABLE IF NOT EXISTS message_id (
  upstream_id TEXT NOT NULL PRIMARY KEY,
  our_id TEXT NOT NULL,
  recipient_hash INTEGER NOT NULL,
  at_ms INTEGER NOT NULL
);
