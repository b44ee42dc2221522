CREATE TABLE IF NOT EXISTS collection (
  kind VARCHAR(16) NOT NULL,
  node VARCHAR(96) NOT NULL,
  run BIGINT NOT NULL,
  shard INT NOT NULL,
  shard_count INT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0,
  begun_ms BIGINT NOT NULL,
  PRIMARY KEY (kind, node)
);
