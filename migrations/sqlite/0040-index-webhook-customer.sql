CREATE INDEX IF NOT EXISTS webhook_customer ON webhook (recipient_hash, id);
