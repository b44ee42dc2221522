CREATE INDEX IF NOT EXISTS webhook_next ON webhook (next_ms);
