CREATE INDEX token_used ON token (username, used_ms);
