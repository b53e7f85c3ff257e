# slow: it calls each function thousands of times.
# A session that calls every entry point thousands of times, errors included, keeps no memory: after a
# warming up, the sum of its memory contexts stays where it is, and so does its private memory.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use List::Util qw(min);
use Test::More;
use Time::HiRes;

# METER_CALLS: how often each entry point is called; not more than METER_SECONDS for each of them.
my $calls   = $ENV{METER_CALLS} || 100_000;
my $seconds = $ENV{METER_SECONDS} || 0.8;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "fsync = off\nsynchronous_commit = off\nautovacuum = off\nmax_wal_size = 4GB\nmeter.worker = off\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT FROM meter.create_partitions();
SELECT FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'ann', 'value', i, 'dimensions', jsonb_build_object('model', i % 3),
    'timestamp', now() - i * interval '11 minutes', 'idempotency', 'key-' || i)) FROM generate_series(1, 300) AS i));
SELECT meter.fold();
CREATE TABLE kept AS SELECT * FROM meter.rollup WHERE hours IS NOT NULL;
CREATE TABLE state AS SELECT '\xa701020000000100000001610000000100000001100000000000000009'::text AS good;
-- The statement many times over, each in a transaction of its own as a client's is, or rolled back to
-- a savepoint where it fails; how many there were within the time.
CREATE PROCEDURE call_many(statement text, calls int, seconds float8, INOUT done int DEFAULT 0, INOUT failed int DEFAULT 0) LANGUAGE plpgsql AS $$
DECLARE
    stop timestamptz := clock_timestamp() + seconds * interval '1 second';
BEGIN
    WHILE done < calls AND clock_timestamp() < stop LOOP
        BEGIN
            EXECUTE statement;
        EXCEPTION WHEN OTHERS THEN
            failed := failed + 1;
        END;
        done := done + 1;
        IF done % 100 = 0 THEN
            COMMIT;
        END IF;
    END LOOP;
END
$$;
SQL

my $keyed = q(record_event('tokens', 'ann', 1, '{"model":"x"}', 'same key', '2026-01-01'));
my $cell  = 'start, first_timestamp, last_timestamp, event_count, last_id, value_sum, value_min, value_max, last_value';
# What is called, and whether it fails; what writes comes last, so that the rest is not slowed down.
my @entries = (
	[ q(SELECT FROM meter.usage('tokens', now() - interval '1 day', now())), 0 ],
	[ q(SELECT FROM meter.usage('tokens', now() - interval '1 day', now(), 'ann', '{model}', '{"model":["x",1]}', 'hour', 'Europe/Berlin', 'last', true)), 0 ],
	[ q(SELECT FROM meter.usage('tokens', now() - interval '1 day', now(), bucket => 'eon')), 1 ],
	[ q(SELECT FROM meter.usage('tokens', now() - interval '1 day', now(), time_zone => 'Mars')), 1 ],
	[ q(SELECT FROM meter.usage('tokens', now() - interval '1 day', now(), filter => '{"model":{}}')), 1 ],
	[ q(SELECT FROM meter.usage_report(now() - interval '1 day', now())), 0 ],
	[ q(SELECT FROM meter.list_events('tokens', max_rows => 3)), 0 ],
	[ q(SELECT FROM meter.list_meters()), 0 ],
	[ q(SELECT meter.bucket_start(now(), 'week', 'America/New_York'), meter.bucket_end(now(), 'day', 'Asia/Tokyo')), 0 ],
	[ q(SELECT meter.bucket_start('infinity', 'week')), 1 ],
	[ q(SELECT FROM meter.create_meter('tokens', dimensions => '{model}', if_not_exists => true)), 0 ],
	[ q(SELECT FROM meter.create_meter('tokens')), 1 ],
	[ q(SELECT FROM meter.update_meter('tokens', name => 'Tokens')), 0 ],
	[ q(SELECT FROM meter.add_dimension('tokens', 'user_id')), 1 ],
	[ q(SELECT FROM meter.drop_meter('tokens')), 1 ],
	[ q(SELECT FROM meter.archive_meter('nothing')), 1 ],
	[ q(SELECT FROM meter.create_partitions()), 0 ],
	[ q(SELECT FROM meter.status), 0 ],
	[ q(SELECT FROM meter.system_status), 0 ],
	[ q(SELECT meter.fold()), 0 ],
	[ q(SELECT meter.dimensions_digest('{"model":"x","n":1.50}')), 0 ],
	[ q(SELECT meter.dimensions_digest('{"model":[]}')), 1 ],
	[ q(SELECT meter.sum_by(i, jsonb_build_object('a', i), '{a}'), meter.last(i, now(), i) FROM generate_series(1, 20) AS i), 0 ],
	[ q(SELECT meter.last_by(i, now(), jsonb_build_object('a', repeat('x', i)), '{a}'), meter.count_by('{"a":[1.50]}', '{a}') FROM generate_series(1, 20) AS i), 0 ],
	[ q(SELECT meter.count_by('[]', '{a}')), 1 ],
	[ q(SELECT meter.sum_by(1, '{}', '{a,a}')), 1 ],
	[ q(SELECT meter.groups_final(good::meter.aggregate_state) FROM state), 0 ],
	[ q(SELECT (good || 'ff')::meter.aggregate_state FROM state), 1 ],
	[ q(SELECT substr(good, 1, 40)::meter.aggregate_state FROM state), 1 ],
	[ "SELECT FROM kept, meter.cell_hours($cell, hours)", 0 ],
	[ "SELECT FROM kept, meter.cell_hours($cell, substr(hours, 1, length(hours) - 1))", 1 ],
	[ "SELECT meter.sum_hours($cell, value_time, hours, ARRAY[start], ARRAY[start + interval '1 day'], ARRAY[start], true, true) FROM kept", 0 ],
	[ "SELECT meter.sum_hours($cell, value_time, set_byte(hours, 0, 9), ARRAY[start], ARRAY[start + interval '1 day'], ARRAY[start], true, true) FROM kept", 1 ],
	[ q(SELECT FROM meter.sum_months(ARRAY[1], ARRAY[date_trunc('month', now())])), 0 ],
	[ q(SELECT FROM meter.sum_months(ARRAY[NULL], ARRAY[date_trunc('month', now())])), 1 ],
	[ q(SELECT FROM meter.verify(date_trunc('month', now()), date_trunc('month', now()) + interval '1 hour', 'tokens')), 0 ],
	[ q(SELECT meter.record_event('tokens', 'ann', 1.5, '{"model":"x"}')), 0 ],
	[ "SELECT meter.$keyed", 0 ],
	[ q(SELECT meter.record_event('tokens', 'ann', 2, '{"model":"x"}', 'key-1')), 1 ],
	[ q(SELECT meter.record_event('tokens', 'ann', 1, '{"nothing":"x"}')), 1 ],
	[ q(SELECT meter.record_event('nothing', 'ann')), 1 ],
	[ q(SELECT meter.record_event('tokens', 'ann', 'NaN')), 1 ],
	[ q(SELECT FROM meter.record_events('[{"event_name":"tokens","user_id":"ann","dimensions":{"model":"y"}},{"event_name":"tokens"},7]')), 0 ],
	[ q(SELECT FROM meter.record_events('[{"event_name":"tokens","user_id":"ann"},{"event_name":"tokens"}]', strict => true)), 1 ],
	[ q(SELECT FROM meter.record_events('{}')), 1 ],
	[ q(SELECT FROM meter.record_events(ARRAY['tokens','nothing'], ARRAY['ann',NULL], '{1,NaN}', NULL, '{key-1,key-1}', NULL)), 0 ],
	[ q(SELECT FROM meter.record_events(ARRAY['tokens'], ARRAY['ann','bob'], '{1}', NULL, NULL, NULL)), 1 ],
	[ q(SELECT FROM meter.ingest('{"event_name":"tokens","user_id":"ann","metadata":{"a":[1,{"b":null}]}}')), 0 ],
	[ q(SELECT FROM meter.ingest('[{"event_name":"tokens",')), 1 ],
	[ q(INSERT INTO meter.event_load (event_name, user_id, idempotency) VALUES ('tokens', 'ann', 'key-9')), 1 ],
	[ q(INSERT INTO meter.event_load_json VALUES ('{"event_name":"tokens","user_id":"ann","idempotency":"loaded","timestamp":"2026-01-01T00:00:00Z"}')), 0 ],
);

# One session for all: what one call leaves behind, another must not hide.
my $memory = q{SELECT (SELECT sum(total_bytes) FROM pg_backend_memory_contexts), (SELECT sum(used_bytes) FROM pg_backend_memory_contexts), substring(pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+) kB')::bigint * 1024};
my $script = '';
for my $entry (@entries)
{
	my $quoted = $entry->[0] =~ s/'/''/gr;
	# The first calls fill caches and plans; those after them have to be free. Where somebody else's ANALYZE, say,
	# has caches filled anew meanwhile, half of them are.
	my $half = "CALL call_many('$quoted', " . int($calls / 2) . ", 0.5 * $seconds);\n$memory;\n";
	$script .= "CALL call_many('$quoted', 300, 0.3 * $seconds);\n$memory;\n$half$half";
}
my $start = Time::HiRes::time();
my ($status, $stdout, $stderr) = $node->psql('postgres', $script, on_error_stop => 1);
is($status, 0, 'all entry points are called') or diag($stderr);
my @lines = split /\n/, $stdout;
my ($all, $all_failed) = (0, 0);
for my $entry (@entries)
{
	my ($name, $fails) = @$entry;
	my ($warm, $before, @halves) = map { [ split /\|/ ] } splice @lines, 0, 6;
	my ($done, $failed, @grown, @private) = (0, 0);
	for my $half (0, 1)
	{
		my ($many, $after) = @halves[ 2 * $half, 2 * $half + 1 ];
		$done   += $many->[0];
		$failed += $many->[1];
		# In bytes for each call: a leak of one small block a call is 16.
		push @grown, $after->[1] - $before->[1] - 2 * $many->[0];
		push @private, $after->[2] - $before->[2] - 16 * $many->[0];
		$before = $after;
	}
	$all += $done;
	$all_failed += $failed;
	is($failed, $fails ? $done : 0, ($fails ? 'fails' : 'succeeds') . ": $name");
	cmp_ok(min(@grown), '<', 8192, "$done calls leave nothing in the memory contexts");
	cmp_ok(min(@private), '<', 1_500_000, "$done calls leave nothing outside of them");
	note("$done calls: beyond 2 bytes a call in contexts @grown, beyond 16 in private memory @private");
}
note(sprintf '%d calls, %d of them errors, in %.0f s', $all, $all_failed, Time::HiRes::time() - $start);
$node->stop;
done_testing();
