SELECT quote_literal(date_trunc('month', now(), 'UTC') - interval '1 month') AS start, quote_literal(date_trunc('month', now(), 'UTC')) AS stop
