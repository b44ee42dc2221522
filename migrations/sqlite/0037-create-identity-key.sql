CREATE TABLE IF NOT EXISTS identity_key (
  address TEXT NOT NULL PRIMARY KEY,
  hash TEXT NOT NULL,
  changed_ms INTEGER NOT NULL,
  acknowledged INTEGER NOT NULL,
  seen_ms INTEGER NOT NULL
);
