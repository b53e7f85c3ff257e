SELECT bool_and(c.usage = (SELECT value FROM meter.usage(m.event_name, c.period_start, CASE c.period WHEN 'd' THEN c.period_start + interval '1 day'
    ELSE c.period_start + interval '1 month' END, c.user_id))) IS NOT FALSE FROM meter.limit_usage c JOIN meter.meter m ON m.id = c.meter_id
    WHERE c.user_id LIKE 'user-1%';
