CREATE TABLE IF NOT EXISTS node_home (
  home_of VARCHAR(96) NOT NULL PRIMARY KEY,
  home_counter BIGINT NOT NULL,
  home_random BIGINT NOT NULL,
  home_machine CHAR(32) NOT NULL,
  home_boot CHAR(32) NOT NULL
);
