SELECT meter.void_event('tokens', 'user-' || n % 1000, 'k' || n, 'sent twice') FROM nextval('next_ours') AS n;
