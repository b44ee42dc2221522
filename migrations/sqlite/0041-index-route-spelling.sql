CREATE INDEX IF NOT EXISTS route_spelling ON route (spelling);
