CREATE INDEX IF NOT EXISTS message_recipient ON message (recipient_hash, state);
