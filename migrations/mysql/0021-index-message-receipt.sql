CREATE INDEX message_receipt ON message (receipt, claim_order);
