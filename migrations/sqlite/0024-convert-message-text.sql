UPDATE message SET form=1, payload=json_object(
    'to', json_object('phone', payload -> '$.to'),
    'reply_to', payload -> '$.context.message_id',
    'preview_url', payload -> '$.text.preview_url',
    'content', json_object('text', json_object('body', payload -> '$.text.body'))
  ) WHERE form=0 AND state<3 AND payload ->> '$.type'='text';
