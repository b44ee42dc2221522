CREATE TABLE IF NOT EXISTS webhook_parked (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  event_key VARCHAR(190) NOT NULL,
  recipient_hash INT NOT NULL,
  payload TEXT NOT NULL,
  attempts INT NOT NULL,
  since_ms BIGINT NOT NULL,
  parked_ms BIGINT NOT NULL,
  why VARCHAR(200) NOT NULL
);
