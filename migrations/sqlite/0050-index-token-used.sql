CREATE INDEX IF NOT EXISTS token_used ON token (username, used_ms);
