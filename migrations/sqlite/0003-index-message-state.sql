CREATE INDEX IF NOT EXISTS message_state ON message (state, next_ms);
