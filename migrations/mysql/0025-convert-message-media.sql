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
