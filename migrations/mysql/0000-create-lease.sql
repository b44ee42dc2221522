CREATE TABLE IF NOT EXISTS lease (
  name VARCHAR(32) NOT NULL PRIMARY KEY,
  shard INT NOT NULL,
  owner VARCHAR(96) NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  token BIGINT NOT NULL,
  grant_id BIGINT NOT NULL,
  nonce BIGINT NOT NULL,
  ttl_ms BIGINT NOT NULL,
  phase VARCHAR(16) NOT NULL,
  generation INT NOT NULL,
  epoch_high BIGINT NOT NULL,
  shard_count INT NOT NULL,
  touch BIGINT NOT NULL,
  previous TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
