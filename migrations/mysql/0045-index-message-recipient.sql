CREATE INDEX message_recipient ON message (recipient_hash, state);
