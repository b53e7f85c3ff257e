\set u random(1, 1000)
\set v random(1, 5000)
\set d random(1, 4)
SELECT meter.record_event('tokens', 'user-' || :u, :v::numeric, (ARRAY['{"model":"gpt-4","region":"us","status":200}', '{"model":"gpt-4","region":"eu","status":200}', '{"model":"gpt-3.5","region":"us","status":200}', '{"model":"gpt-3.5","region":"eu","status":429}'])[:d]::jsonb, {{key}});
