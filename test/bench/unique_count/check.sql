WITH ours AS MATERIALIZED (SELECT {{columns}} FROM meter.usage('{{name}}', {{start}}, {{stop}}, {{user}}, aggregation => 'unique_count', property => '{{property}}'{{more}})),
theirs AS MATERIALIZED (SELECT {{hand_columns}} count(DISTINCT {{hand}})::numeric FROM hand.usage_event
    WHERE meter_id = {{meter}} AND "timestamp" >= {{start}} AND "timestamp" < {{stop}} {{hand_user}} {{hand_group}})
SELECT (SELECT count(*) FROM ours) > 0
    AND NOT EXISTS ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours));
