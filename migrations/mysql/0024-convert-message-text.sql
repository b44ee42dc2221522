UPDATE message SET form=1, payload=JSON_OBJECT(
    'to', JSON_OBJECT('phone', JSON_EXTRACT(payload, '$.to')),
    'reply_to', JSON_EXTRACT(payload, '$.context.message_id'),
    'preview_url', JSON_EXTRACT(payload, '$.text.preview_url'),
    'content', JSON_OBJECT('text', JSON_OBJECT('body', JSON_EXTRACT(payload, '$.text.body')))
  ) WHERE form=0 AND state<3 AND JSON_UNQUOTE(JSON_EXTRACT(payload, '$.type'))='text';
