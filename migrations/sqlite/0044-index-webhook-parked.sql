CREATE INDEX IF NOT EXISTS webhook_parked_customer ON webhook_parked (recipient_hash);
