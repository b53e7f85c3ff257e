SELECT {{hand_columns}} count(DISTINCT {{hand}})::numeric FROM hand.usage_event WHERE meter_id = {{meter}} AND "timestamp" >= {{start}} AND "timestamp" < {{stop}} {{hand_user}} {{hand_group}};
