CREATE INDEX IF NOT EXISTS message_receipt ON message (receipt, claim_order);
