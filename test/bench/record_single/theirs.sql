\set u random(1, 1000)
\set v random(1, 5000)
\set d random(1, 4)
INSERT INTO hand.usage_event (meter_id, user_id, value, "timestamp", idempotency, dimensions, metadata, recorded_at) VALUES (1, 'user-' || :u, :v::numeric, now(), {{key}}, (ARRAY['{"model":"gpt-4","region":"us","status":200}', '{"model":"gpt-4","region":"eu","status":200}', '{"model":"gpt-3.5","region":"us","status":200}', '{"model":"gpt-3.5","region":"eu","status":429}'])[:d]::jsonb, '{}', now()) ON CONFLICT DO NOTHING;
