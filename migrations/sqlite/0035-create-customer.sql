CREATE TABLE IF NOT EXISTS customer (
  user_id TEXT NOT NULL PRIMARY KEY,
  wa_id TEXT NULL UNIQUE,
  remembered TEXT NULL UNIQUE,
  alias TEXT NULL UNIQUE,
  username TEXT NOT NULL,
  profile_name TEXT NOT NULL,
  recipient_hash INTEGER NOT NULL,
  both_ms INTEGER NOT NULL,
  seen_ms INTEGER NOT NULL
);
