CREATE INDEX message_id_our ON message_id (our_id);
