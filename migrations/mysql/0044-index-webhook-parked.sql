CREATE INDEX webhook_parked_customer ON webhook_parked (recipient_hash);
