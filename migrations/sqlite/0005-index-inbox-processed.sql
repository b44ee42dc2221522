CREATE INDEX IF NOT EXISTS inbox_processed ON inbox (processed, received_ms);
