SELECT * FROM hand.usage_event WHERE meter_id = 1 {{hand_user}} {{hand_after}} ORDER BY "timestamp" DESC, id DESC LIMIT 100;
