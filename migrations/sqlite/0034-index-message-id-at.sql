CREATE INDEX IF NOT EXISTS message_id_at ON message_id (at_ms);
