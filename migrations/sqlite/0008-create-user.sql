CREATE TABLE IF NOT EXISTS user_account (
  username VARCHAR(32) NOT NULL PRIMARY KEY,
  password_hash VARCHAR(255) NOT NULL,
  admin INT NOT NULL,
  must_change INT NOT NULL
);
