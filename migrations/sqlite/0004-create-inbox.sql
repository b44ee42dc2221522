CREATE TABLE IF NOT EXISTS inbox (
  event_key VARCHAR(190) NOT NULL PRIMARY KEY,
  recipient_hash INT NOT NULL,
  payload TEXT NOT NULL,
  received_ms BIGINT NOT NULL,
  processed INT NOT NULL DEFAULT 0
);
