CREATE INDEX inbox_processed ON inbox (processed, received_ms);
