SELECT (SELECT count(*) FROM meter.event_void) = (SELECT last_value FROM next_ours)
    AND (SELECT value FROM meter.usage('tokens', '1970-01-01', now() + interval '1 day')) = (SELECT sum(value) FROM hand.usage_event WHERE voided_at IS NULL);
