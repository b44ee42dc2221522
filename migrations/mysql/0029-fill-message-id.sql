INSERT IGNORE INTO message_id (upstream_id, our_id, recipient_hash, at_ms)
  SELECT wamid, id, recipient_hash, GREATEST(accepted_ms, finished_ms) FROM message WHERE wamid<>'';
