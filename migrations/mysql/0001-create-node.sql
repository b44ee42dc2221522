CREATE TABLE IF NOT EXISTS node (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  role INT NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  machine VARCHAR(64) NOT NULL,
  zone VARCHAR(64) NOT NULL,
  address VARCHAR(64) NOT NULL,
  port_heartbeat INT NOT NULL,
  port_control INT NOT NULL,
  port_api INT NOT NULL,
  version VARCHAR(32) NOT NULL,
  weight INT NOT NULL,
  draining INT NOT NULL DEFAULT 0,
  beat_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;
