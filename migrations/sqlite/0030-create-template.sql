CREATE TABLE IF NOT EXISTS template (
  name VARCHAR(512) NOT NULL,
  language VARCHAR(32) NOT NULL,
  status VARCHAR(64) NOT NULL,
  shape TEXT NOT NULL,
  read_ms BIGINT NOT NULL,
  PRIMARY KEY (name, language)
);
