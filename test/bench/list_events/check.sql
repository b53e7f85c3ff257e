SELECT (SELECT array_agg(e.id) FROM (SELECT * FROM meter.list_events('calls', {{period}}, {{user}}, '{}', 100, {{after}})) AS e)
       IS NOT DISTINCT FROM
       (SELECT array_agg(e.id) FROM (SELECT * FROM hand.usage_event WHERE meter_id = 1 {{hand_user}} {{hand_after}}
                                     ORDER BY "timestamp" DESC, id DESC LIMIT 100) AS e);
