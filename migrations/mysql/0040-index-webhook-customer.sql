CREATE INDEX webhook_customer ON webhook (recipient_hash, id);
