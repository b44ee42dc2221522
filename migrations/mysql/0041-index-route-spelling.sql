CREATE INDEX route_spelling ON route (spelling);
