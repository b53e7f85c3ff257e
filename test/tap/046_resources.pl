# slow: it runs many statements for as long as they take, and cancels them.
# alone: it measures how soon a statement ends.
# What is scarce: time that a statement is given, the disk, memory, connections. METER_CALLS: how many
# events the statements that are cancelled work on.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(time sleep);
use FindBin;

my $events = $ENV{METER_CALLS} || 8_000;
my $source = $ENV{METER_SOURCE} || "$FindBin::Bin/../..";
my $directory = PostgreSQL::Test::Utils::tempdir;

# A disk that can be made full, where there is a compiler.
my $library = "$directory/full_disk.so";
my $flag = "$directory/full";
my ($compiler) = grep { system("command -v $_ >/dev/null 2>&1") == 0 } qw(cc gcc clang g++);
$compiler .= ' -x c' if ($compiler // '') eq 'g++';
my $can_fill = $^O eq 'linux' && $compiler && system("$compiler -shared -fPIC -o '$library' '$source/test/full_disk/full_disk.c' -ldl") == 0;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "fsync = off\ntimezone = 'UTC'\nlc_messages = 'C'\nautovacuum = off\nmax_connections = 520\nshared_buffers = 64MB\nmax_wal_size = 2GB\n");
{
	local $ENV{LD_PRELOAD} = $can_fill ? $library : '';
	local $ENV{METER_FULL_DISK} = $flag;
	$node->start;
}
my $sql = sub { $node->safe_psql('postgres', $_[0]) };
$sql->(<<SQL);
CREATE EXTENSION meter;
SET client_min_messages = warning;
SELECT FROM meter.create_meter('tokens', dimensions => '{model,request}');
SELECT FROM meter.create_partitions(0, '2026-01-01');
CREATE TABLE batch AS SELECT array_agg('tokens'::text ORDER BY i) AS names, array_agg('user-' || i % 100 ORDER BY i) AS users, array_agg(i * 0.001 ORDER BY i) AS quantities, array_agg(gen_random_uuid()::text) AS keys,
    array_agg(jsonb_build_object('model', 'm' || i % 5, 'request', i % 1000) ORDER BY i) AS dimensions, array_agg('2026-01-01'::timestamptz + i * (interval '27 days' / $events) ORDER BY i) AS times FROM generate_series(1, $events) AS i;
CREATE TABLE document AS SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', u, 'value', q, 'idempotency', k, 'dimensions', d, 'timestamp', t)) AS items
    FROM (SELECT unnest(users) AS u, unnest(quantities) AS q, unnest(keys) AS k, unnest(dimensions) AS d, unnest(times) AS t FROM batch) AS b;
CREATE TABLE lines AS SELECT string_agg(item::text, E'\\n') AS payload FROM document, jsonb_array_elements(items) AS item;
SELECT FROM batch, meter.record_events(names, users, quantities, dimensions, NULL, times);
-- What a heavy user has.
SELECT FROM meter.record_events(array_fill('tokens'::text, ARRAY[$events]), array_fill('heavy'::text, ARRAY[$events]), NULL, NULL, NULL, (SELECT times FROM batch));
-- What is in no partition.
SELECT FROM meter.record_events(array_fill('tokens'::text, ARRAY[$events]), array_fill('old'::text, ARRAY[$events]), NULL, NULL, NULL, (SELECT array_agg(t - interval '2 months') FROM batch, unnest(times) AS t));
ANALYZE;
SQL

# --- a time out counts within 200 ms

# How much longer than its own time something takes here just now: other work on the machine is not ours.
sub slowness
{
	my ($start, @before) = (time, times);
	my $n = 0;
	$n += $_ for 1 .. 4_000_000;
	my @after = times;
	my $own = $after[0] + $after[1] - $before[0] - $before[1];
	return $own > 0.005 ? (time - $start) / $own : 1;
}

# For how long a statement ran in a transaction that is undone, in milliseconds, and whether it was cancelled.
sub run_for
{
	my ($statement, $timeout, $plain, $before) = @_;
	my $block = $plain ? [ '', '' ] : [ 'BEGIN;', 'ROLLBACK;' ];
	my ($status, $out, $err) = $node->psql('postgres', "SET client_min_messages = error;\n$block->[0]\n" . ($before // '') . "\nSET statement_timeout = $timeout;\n\\timing on\n$statement;\n\\timing off\n$block->[1]", on_error_stop => 0);
	my ($time) = $out =~ /^Time: ([\d.]+) ms/m or die "no time: $out $err";
	die "$statement: $err" if $err =~ /ERROR/ && $err !~ /canceling statement due to statement timeout/;
	return ($time, $err =~ /canceling statement due to statement timeout/ ? 1 : 0);
}

# Cancelled at several points of its way; each point is tried again where it took too long.
sub is_cancelled
{
	my ($name, $statement, %with) = @_;
	my ($whole) = $with{plain} ? (400) : run_for($statement, 0, 0, $with{before});
	my ($worst, $cancelled) = (0, 0);
	for my $part (@{ $with{parts} // [ 0.05, 0.3, 0.6, 0.9 ] })
	{
		my $timeout = int($whole * $part) || 1;
		my $over;
		for (1 .. 6)
		{
			my ($time, $was) = run_for($statement, $timeout, $with{plain}, $with{before});
			$cancelled += $was;
			my $this = $was ? $time - $timeout : 0;
			$this /= slowness() if $this >= 200;
			$over = $this if !defined $over || $this < $over;
			last if $over < 200;
		}
		$worst = $over if $over > $worst;
	}
	cmp_ok($worst, '<', 200, sprintf '%s: cancelled %d times within %d ms, of %d', $name, $cancelled, $worst, $whole);
	cmp_ok($cancelled, '>', 0, "$name: it was cancelled");
}

my $batch = 'meter.record_events(names, users, quantities, dimensions, keys, times)';
is_cancelled('a batch of arrays', "SELECT count(*) FROM batch, $batch");
is_cancelled('a batch of jsonb', 'SELECT count(*) FROM document, meter.record_events(items)');
is_cancelled('ingest', 'SELECT count(*) FROM lines, meter.ingest(payload)');
is_cancelled('a load', "INSERT INTO meter.event_load (event_name, user_id, idempotency, \"timestamp\", dimensions) SELECT 'tokens', u, k, t, d FROM batch, unnest(users, keys, times, dimensions) AS x (u, k, t, d)");
is_cancelled('a load of JSON', "INSERT INTO meter.event_load_json SELECT line FROM lines, unnest(string_to_array(payload, E'\\n')) AS line");
is_cancelled('usage of what is pending', "SELECT count(*) FROM meter.usage('tokens', '2025-01-01', '2026-01-20 10:11:12', group_by => '{user_id,request}', bucket => 'day')");
is_cancelled('a fold', 'SELECT meter.fold(true)');
$sql->('SELECT meter.fold(true)');
is_cancelled('usage of many groups', "SELECT count(*) FROM meter.usage('tokens', '2025-01-01', '2026-01-20 10:11:12', group_by => '{user_id,request}', bucket => 'day')");
is_cancelled('filling in', sprintf("SELECT count(*) FROM meter.usage('tokens', '2026-01-01', '2026-01-01'::timestamptz + %d * interval '1 minute', bucket => 'minute', fill => true, group_by => '{model}')", $events * 4), before => 'SET meter.max_usage_rows = 100000000;');
is_cancelled('usage_report', "SELECT count(*) FROM meter.usage_report('2025-01-01', '2026-01-20 10:11:12')", parts => [ 0.3 ]);
is_cancelled('list_events', "SELECT count(*) FROM meter.list_events('tokens', filter => '{\"model\": \"none\"}')", parts => [ 0.2, 0.7 ]);
is_cancelled('verify', "SELECT count(*) FROM meter.verify('2025-11-01', '2026-02-01')", parts => [ 0.1, 0.5 ]);
is_cancelled('rebuild', "SELECT meter.rebuild('2025-11-01', '2026-02-01')", parts => [ 0.1, 0.4, 0.8 ]);
is_cancelled('take_in', "SELECT meter.take_in('tokens', 'model')", before => "SELECT meter.leave_out('tokens', 'model');", parts => [ 0.1, 0.4, 0.8 ]);
is_cancelled('erase_user', "SELECT meter.erase_user('heavy')", parts => [ 0.2, 0.7 ]);
is_cancelled('erase_user, removing', "SELECT meter.erase_user('heavy', NULL, true)", parts => [ 0.2, 0.7 ]);
my $many = $events * 10;
is_cancelled("the aggregate $_->[0]", "SELECT length($_->[1]::text) FROM generate_series(1, $many) AS i") for
  [ 'sum_by of few groups', q(meter.sum_by(i, jsonb_build_object('a', i % 10), '{a}')) ], [ 'sum_by of many groups', qq(meter.sum_by(i, jsonb_build_object('a', i % ($many / 4)), '{a}')) ],
  [ 'last_by of many groups', qq(meter.last_by(i, now(), jsonb_build_object('a', i % ($many / 4)), '{a}')) ];
is_cancelled('emptying the default partition', 'CALL meter.empty_default_partition()', plain => 1, parts => [ 0.05, 0.15, 0.3 ]);
is_cancelled('dropping events', "CALL meter.drop_events('2026-01-20')", plain => 1, parts => [ 0.02, 0.05, 0.1 ]);
is($sql->("SELECT count(*) FROM meter.event_key"), 0, 'nothing that was cancelled is there');
is($sql->("SELECT count(*) FROM meter.verify('2026-02-01', '2026-03-01')"), 0, 'the rollups are right');

# --- a full disk

SKIP:
{
	skip 'there is no compiler', 1 unless $can_fill;
	my ($status, $out, $err);
	my $fill = sub { open(my $file, '>', "$flag.new") or die $!; print $file $_[0]; close $file; rename "$flag.new", $flag or die $! };
	$fill->(0);
	($status, $out, $err) = $node->psql('postgres', 'CREATE TABLE proof AS SELECT i FROM generate_series(1, 1000) AS i');
	unlink $flag;
	skip 'the library is not loaded', 1 unless $err =~ /No space left on device/;
	my $state = 'SELECT (SELECT count(*) FROM meter.event_key), (SELECT count(*) FROM meter.meter_event), (SELECT count(*) FROM meter.rollup_pending), (SELECT sum(event_count) FROM meter.rollup_total)';
	my $before = $sql->($state);
	my $failures = 0;
	my %forms = ('arrays' => "SELECT count(*) FROM (SELECT names[1:5000] AS n, users[1:5000] AS u, quantities[1:5000] AS q, dimensions[1:5000] AS d, keys[1:5000] AS k, times[1:5000] AS t FROM batch) AS b, meter.record_events(n, u, q, d, k, (SELECT array_agg(x + interval '2 months') FROM unnest(t) AS x))",
		'a load' => "INSERT INTO meter.event_load (event_name, user_id, value, dimensions, idempotency, \"timestamp\") SELECT 'tokens', u, q, d, k, t + interval '2 months' FROM batch, unnest(users[1:5000], quantities[1:5000], dimensions[1:5000], keys[1:5000], times[1:5000]) AS x (u, q, d, k, t)");
	for my $form (sort keys %forms)
	{
		# After so many pages, so that it is the table of keys, of events, of deltas, or an index that cannot grow.
		for my $pages (0, 1, 2, 5, 20, 60, 120, 250)
		{
			$fill->($pages);
			($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\n$forms{$form}");
			unlink $flag;
			last if $status == 0;
			++$failures;
			like($err, qr/ERROR:  53100: could not extend file .*No space left on device/, "$form: the disk is full after $pages pages");
			is($sql->($state), $before, '... and nothing is half written');
		}
	}
	cmp_ok($failures, '>', 6, 'there were several places to fail in');
	is($sql->($forms{'arrays'}), 5000, 'once there is room it is recorded');
	is($sql->($forms{'arrays'} =~ s/count\(\*\)/count(*) FILTER (WHERE status = 'duplicate')/r), 5000, 'and once');
	$before = $sql->($state);
	for my $pages (0, 1, 3, 10)
	{
		$fill->($pages);
		($status, $out, $err) = $node->psql('postgres', "\\set VERBOSITY verbose\nSELECT meter.fold(true)");
		unlink $flag;
		last if $status == 0;
		like($err, qr/ERROR:  53100: /, "a fold: the disk is full after $pages pages");
		is($sql->($state), $before, '... and nothing is half written');
	}
	$sql->('SELECT meter.fold(true)');
	is($sql->("SELECT count(*), (SELECT value = (SELECT sum(value) FROM meter.meter_event WHERE \"timestamp\" >= '2026-02-01') FROM meter.usage('tokens', '2026-02-01', '2026-06-01')) FROM meter.verify('2026-02-01', '2026-06-01')"), '0|t', 'what is folded afterwards is right');
}

# --- five hundred connections

append_to_file("$directory/record.sql", <<'SQL');
\set n random(1, 5)
SELECT meter.record_event('tokens', 'client-' || :client_id, 1, '{"model": "x"}', 'key-' || :n, '2026-02-10');
SELECT value FROM meter.usage('tokens', '2026-02-01', '2026-03-01', 'client-' || :client_id);
SQL
my ($out, $err) = run_command([ 'pgbench', '-n', '-c', 500, '-j', 4, '-t', 4, '-M', 'prepared', '-f', "$directory/record.sql", $node->connstr('postgres') ]);
like($out, qr{transactions actually processed: 2000/2000}, 'five hundred connections record and read at once') or diag($err);
unlike($err, qr/ERROR|FATAL|aborted/, 'none has an error');
is($sql->(q(SELECT count(*) = count(DISTINCT (user_id, idempotency)), count(DISTINCT user_id) FROM meter.meter_event WHERE user_id ~ '^client')), 't|500', 'each key counts once');
is($sql->(q(SELECT sum(value) = (SELECT count(*) FROM meter.meter_event WHERE user_id ~ '^client') FROM meter.usage('tokens', '2026-02-01', '2026-03-01', group_by => '{user_id}') WHERE user_id ~ '^client')), 't', 'and is counted');
unlike(slurp_file($node->logfile), qr/PANIC|TRAP|terminated by signal/, 'the server has been up all the time');
$node->stop;
done_testing();
