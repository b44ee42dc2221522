CREATE INDEX message_state ON message (state, next_ms);
