UPDATE message SET form=1, kind=payload ->> '$.type', payload=json_object(
    'to', json_object('phone', payload -> '$.to'),
    'reply_to', payload -> '$.context.message_id',
    'content', json_object('media', json_object(
      'kind', payload -> '$.type',
      'id', payload -> ('$.' || (payload ->> '$.type') || '.id'),
      'link', payload -> ('$.' || (payload ->> '$.type') || '.link'),
      'caption', payload -> ('$.' || (payload ->> '$.type') || '.caption'),
      'filename', payload -> ('$.' || (payload ->> '$.type') || '.filename')
    ))
  ) WHERE form=0 AND state<3 AND payload ->> '$.type'<>'text';
