UPDATE hand.usage_event AS e SET voided_at = now(), reason = 'sent twice' FROM nextval('next_theirs') AS n WHERE meter_id = 1 AND user_id = 'user-' || n % 1000 AND idempotency = 'k' || n;
