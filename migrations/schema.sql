-- The whole schema, for reading. Made from the numbered files; the lease tables come first and are frozen.

CREATE TABLE IF NOT EXISTS lease (
  name VARCHAR(32) NOT NULL PRIMARY KEY,
  shard INT NOT NULL,
  owner VARCHAR(96) NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  token BIGINT NOT NULL,
  grant_id BIGINT NOT NULL,
  nonce BIGINT NOT NULL,
  ttl_ms BIGINT NOT NULL,
  phase VARCHAR(16) NOT NULL,
  generation INT NOT NULL,
  epoch_high BIGINT NOT NULL,
  shard_count INT NOT NULL,
  touch BIGINT NOT NULL,
  previous TEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS schema_version (
  version INT NOT NULL PRIMARY KEY
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS shard_guard (
  shard INT NOT NULL PRIMARY KEY,
  epoch BIGINT NOT NULL,
  grant_id BIGINT NOT NULL,
  touch BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS node (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  role INT NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  machine VARCHAR(64) NOT NULL,
  zone VARCHAR(64) NOT NULL,
  address VARCHAR(64) NOT NULL,
  port_heartbeat INT NOT NULL,
  port_control INT NOT NULL,
  port_api INT NOT NULL,
  version VARCHAR(32) NOT NULL,
  weight INT NOT NULL,
  draining INT NOT NULL DEFAULT 0,
  beat_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS message (
  seq BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  id VARCHAR(64) NOT NULL UNIQUE,
  body_hash BIGINT NOT NULL,
  recipient VARCHAR(32) NOT NULL,
  recipient_hash INT NOT NULL,
  payload MEDIUMTEXT NOT NULL,
  state INT NOT NULL,
  attempts INT NOT NULL DEFAULT 0,
  claim_epoch BIGINT NOT NULL DEFAULT 0,
  claim_grant BIGINT NOT NULL DEFAULT 0,
  claim_batch BIGINT NOT NULL DEFAULT 0,
  next_ms BIGINT NOT NULL,
  wamid VARCHAR(190) NULL,
  error_code INT NOT NULL DEFAULT 0,
  accepted_ms BIGINT NOT NULL,
  finished_ms BIGINT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX message_state ON message (state, next_ms);

CREATE TABLE IF NOT EXISTS inbox (
  event_key VARCHAR(190) NOT NULL PRIMARY KEY,
  recipient_hash INT NOT NULL,
  payload MEDIUMTEXT NOT NULL,
  received_ms BIGINT NOT NULL,
  processed INT NOT NULL DEFAULT 0
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX inbox_processed ON inbox (processed, received_ms);

CREATE TABLE IF NOT EXISTS webhook (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_key VARCHAR(190) NOT NULL UNIQUE,
  recipient_hash INT NOT NULL,
  payload MEDIUMTEXT NOT NULL,
  attempts INT NOT NULL DEFAULT 0,
  next_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX webhook_next ON webhook (next_ms);

CREATE INDEX webhook_customer ON webhook (recipient_hash, id);

CREATE TABLE IF NOT EXISTS user_account (
  username VARCHAR(32) NOT NULL PRIMARY KEY,
  password_hash VARCHAR(255) NOT NULL,
  admin INT NOT NULL,
  must_change INT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS token (
  token_hash VARCHAR(64) NOT NULL PRIMARY KEY,
  username VARCHAR(32) NOT NULL,
  expires_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS setting (
  name VARCHAR(32) NOT NULL PRIMARY KEY,
  version BIGINT NOT NULL,
  value MEDIUMTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS history (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at_ms BIGINT NOT NULL,
  node VARCHAR(96) NOT NULL,
  shard INT NOT NULL,
  what VARCHAR(32) NOT NULL,
  subject VARCHAR(96) NOT NULL,
  reason VARCHAR(64) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS history_evidence (
  id BIGINT NOT NULL PRIMARY KEY,
  evidence MEDIUMTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS node_key (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  sends VARCHAR(8) NOT NULL,
  accepts VARCHAR(64) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS node_connection (
  server VARCHAR(190) NOT NULL,
  connection_id BIGINT NOT NULL,
  client VARCHAR(190) NOT NULL,
  node VARCHAR(96) NOT NULL,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  PRIMARY KEY (server, connection_id)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS mount (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  word VARCHAR(16) NOT NULL,
  sentence VARCHAR(1024) NOT NULL,
  fs_type VARCHAR(32) NOT NULL,
  free_bytes BIGINT NOT NULL,
  seen_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS media (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  mime VARCHAR(128) NOT NULL,
  bytes BIGINT NOT NULL,
  sha256 VARCHAR(64) NOT NULL,
  created_ms BIGINT NOT NULL,
  cloud_id VARCHAR(190) NOT NULL,
  cloud_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS fence (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  level VARCHAR(16) NOT NULL,
  sentence VARCHAR(1024) NOT NULL,
  seen_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE message ADD COLUMN claim_order BIGINT NOT NULL DEFAULT 0;

ALTER TABLE message ADD COLUMN receipt INT NOT NULL DEFAULT 0;

ALTER TABLE message ADD COLUMN receipt_lag_ms BIGINT NOT NULL DEFAULT -1;

CREATE INDEX message_receipt ON message (receipt, claim_order);

ALTER TABLE message ADD COLUMN kind VARCHAR(24) NOT NULL DEFAULT 'text';

ALTER TABLE message ADD COLUMN form INT NOT NULL DEFAULT 0;

UPDATE message SET form=1, payload=JSON_OBJECT(
    'to', JSON_OBJECT('phone', JSON_EXTRACT(payload, '$.to')),
    'reply_to', JSON_EXTRACT(payload, '$.context.message_id'),
    'preview_url', JSON_EXTRACT(payload, '$.text.preview_url'),
    'content', JSON_OBJECT('text', JSON_OBJECT('body', JSON_EXTRACT(payload, '$.text.body')))
  ) WHERE form=0 AND state<3 AND JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type'))='text';

UPDATE message SET form=1, kind=JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type')), payload=JSON_OBJECT(
    'to', JSON_OBJECT('phone', JSON_EXTRACT(payload, '$.to')),
    'reply_to', JSON_EXTRACT(payload, '$.context.message_id'),
    'content', JSON_OBJECT('media', JSON_OBJECT(
      'kind', JSON_EXTRACT(payload, '$.type'),
      'id', JSON_EXTRACT(payload, CONCAT('$.', JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type')), '.id')),
      'link', JSON_EXTRACT(payload, CONCAT('$.', JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type')), '.link')),
      'caption', JSON_EXTRACT(payload, CONCAT('$.', JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type')), '.caption')),
      'filename', JSON_EXTRACT(payload, CONCAT('$.', JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type')), '.filename'))
    ))
  ) WHERE form=0 AND state<3 AND JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type'))<>'text';

CREATE TABLE IF NOT EXISTS node_form (
  node VARCHAR(96) NOT NULL PRIMARY KEY,
  inc_counter BIGINT NOT NULL,
  inc_random BIGINT NOT NULL,
  form_max INT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE message MODIFY COLUMN recipient VARCHAR(160) NOT NULL;

CREATE TABLE IF NOT EXISTS message_id (
  upstream_id VARCHAR(190) NOT NULL PRIMARY KEY,
  our_id VARCHAR(64) NOT NULL,
  recipient_hash INT NOT NULL,
  at_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

INSERT IGNORE INTO message_id (upstream_id, our_id, recipient_hash, at_ms)
  SELECT wamid, id, recipient_hash, GREATEST(accepted_ms, finished_ms) FROM message WHERE wamid<>'';

CREATE TABLE IF NOT EXISTS template (
  name VARCHAR(512) NOT NULL,
  language VARCHAR(32) NOT NULL,
  status VARCHAR(64) NOT NULL,
  shape TEXT NOT NULL,
  read_ms BIGINT NOT NULL,
  PRIMARY KEY (name, language)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE message ADD COLUMN doubt INT NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS route (
  address VARCHAR(160) NOT NULL PRIMARY KEY,
  recipient_hash INT NOT NULL,
  spelling VARCHAR(32) NOT NULL,
  at_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX message_id_our ON message_id (our_id);

CREATE INDEX message_id_at ON message_id (at_ms);

CREATE TABLE IF NOT EXISTS stickerpack (
  id VARCHAR(36) NOT NULL PRIMARY KEY,
  at_ms BIGINT NOT NULL,
  version BIGINT NOT NULL,
  about TEXT NOT NULL,
  stickers MEDIUMTEXT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS collection (
  kind VARCHAR(16) NOT NULL,
  node VARCHAR(96) NOT NULL,
  run BIGINT NOT NULL,
  shard INT NOT NULL,
  shard_count INT NOT NULL,
  deleted BIGINT NOT NULL DEFAULT 0,
  begun_ms BIGINT NOT NULL,
  PRIMARY KEY (kind, node)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS customer (
  user_id VARCHAR(160) NOT NULL PRIMARY KEY,
  wa_id VARCHAR(32) NULL UNIQUE,
  remembered VARCHAR(32) NULL UNIQUE,
  alias VARCHAR(16) NULL UNIQUE,
  username VARCHAR(128) NOT NULL,
  profile_name VARCHAR(256) NOT NULL,
  recipient_hash INT NOT NULL,
  both_ms BIGINT NOT NULL,
  seen_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE message ADD COLUMN told VARCHAR(512) NOT NULL DEFAULT '';

CREATE TABLE IF NOT EXISTS identity_key (
  address VARCHAR(160) NOT NULL PRIMARY KEY,
  hash VARCHAR(256) NOT NULL,
  changed_ms BIGINT NOT NULL,
  acknowledged INT NOT NULL,
  seen_ms BIGINT NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX route_spelling ON route (spelling);

ALTER TABLE webhook ADD COLUMN since_ms BIGINT NOT NULL DEFAULT 0;

CREATE TABLE IF NOT EXISTS webhook_parked (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  event_key VARCHAR(190) NOT NULL,
  recipient_hash INT NOT NULL,
  payload MEDIUMTEXT NOT NULL,
  attempts INT NOT NULL,
  since_ms BIGINT NOT NULL,
  parked_ms BIGINT NOT NULL,
  why VARCHAR(200) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE INDEX webhook_parked_customer ON webhook_parked (recipient_hash);

CREATE TABLE IF NOT EXISTS node_home (
  home_of VARCHAR(96) NOT NULL PRIMARY KEY,
  home_counter BIGINT NOT NULL,
  home_random BIGINT NOT NULL,
  home_machine CHAR(32) NOT NULL,
  home_boot CHAR(32) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

CREATE TABLE IF NOT EXISTS audit (
  id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  at_ms BIGINT NOT NULL,
  node VARCHAR(96) NOT NULL,
  who VARCHAR(96) NOT NULL,
  source VARCHAR(96) NOT NULL,
  what VARCHAR(190) NOT NULL,
  outcome VARCHAR(190) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin;

ALTER TABLE token ADD COLUMN user_id BIGINT NOT NULL DEFAULT 0;

ALTER TABLE user_account ADD COLUMN user_id BIGINT NOT NULL DEFAULT 0;

ALTER TABLE token ADD COLUMN used_ms BIGINT NOT NULL DEFAULT 0;

CREATE INDEX token_used ON token (username, used_ms);
