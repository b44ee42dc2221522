CREATE TABLE IF NOT EXISTS message (
  id VARCHAR(64) NOT NULL PRIMARY KEY,
  body_hash BIGINT NOT NULL,
  recipient VARCHAR(32) NOT NULL,
  recipient_hash INT NOT NULL,
  payload TEXT NOT NULL,
  state INT NOT NULL,
  attempts INT NOT NULL DEFAULT 0,
  claim_epoch BIGINT NOT NULL DEFAULT 0,
  claim_grant BIGINT NOT NULL DEFAULT 0,
  next_ms BIGINT NOT NULL,
  wamid VARCHAR(190) NULL,
  error_code INT NOT NULL DEFAULT 0,
  accepted_ms BIGINT NOT NULL,
  finished_ms BIGINT NOT NULL DEFAULT 0
);
