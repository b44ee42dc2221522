CREATE INDEX webhook_next ON webhook (next_ms);
