CREATE INDEX message_id_at ON message_id (at_ms);
