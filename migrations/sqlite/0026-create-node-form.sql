CREATE TABLE IF NOT EXISTS node_form (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  form_max INT NOT NULL
);
