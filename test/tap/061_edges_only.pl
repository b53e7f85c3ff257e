# slow: it asks hundreds of questions.
# Usage of a month touches no event, and that of a cut period no event but those at its edges: seen
# in the plans of the queries that meter.usage makes (auto_explain), and by PostgreSQL's own count of
# what a transaction fetched from the partitions of meter.meter_event and their indexes.
use strict;
use warnings;
use JSON::PP;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', <<'CONF');
timezone = 'UTC'
autovacuum = off
fsync = off
jit = off
lc_messages = 'C'
CONF
$node->start;

# January 2026 of three users: one has ten events an hour in three sets of dimensions, one has forty
# in all, one has events in the middle of the month alone; so have the months before and after, and
# so has another meter. December lies in the default partition, as do the other months to come.
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT FROM meter.create_meter('calls', 'count', '{model}');
SET client_min_messages = error;
SELECT count(*) FROM meter.create_partitions(1, '2026-01-15');
CREATE FUNCTION public.record(event_name text, user_id text, first timestamptz, step interval, count int) RETURNS bigint LANGUAGE sql AS $$
	SELECT count(*) FROM meter.record_events(array_fill(event_name, ARRAY[count]), array_fill(user_id, ARRAY[count]),
		(SELECT array_agg(i / 8.0) FROM generate_series(1, count) AS i),
		(SELECT array_agg(jsonb_build_object('model', 'm' || i % 3)) FROM generate_series(1, count) AS i), NULL,
		(SELECT array_agg(first + i * step) FROM generate_series(1, count) AS i), NULL) AS r WHERE status = 'recorded'
$$;
SELECT record('tokens', 'dense', '2025-12-01', '6 minutes 1.5 seconds', 21600), record('calls', 'dense', '2026-01-01', '60 minutes 7 seconds', 700),
	record('tokens', 'sparse', '2025-12-01', '18 hours 7 minutes', 119), record('tokens', 'middle', '2026-01-10 00:10', '10 minutes', 1000);
SELECT meter.fold();
VACUUM ANALYZE;
SQL
is($node->safe_psql('postgres', "SELECT string_agg(DISTINCT user_id, ' ' ORDER BY user_id) FROM meter.rollup_days WHERE month = '2026-01-01'"),
	'dense middle', 'the dense months have cells for days, the sparse ones have not');

# What the transaction has fetched from meter.meter_event so far: scans of partitions and of their
# indexes, rows of the table, and entries of indexes.
my $fetched = <<'SQL';
SELECT sum(pg_stat_get_xact_numscans(oid))::bigint,
	sum(pg_stat_get_xact_tuples_fetched(oid) + CASE relkind WHEN 'r' THEN pg_stat_get_xact_tuples_returned(oid) ELSE 0 END)::bigint,
	sum(CASE relkind WHEN 'i' THEN pg_stat_get_xact_tuples_returned(oid) ELSE 0 END)::bigint
FROM pg_class WHERE oid IN (SELECT unnest(ARRAY[inhrelid, indexrelid]) FROM pg_inherits LEFT JOIN pg_index ON indrelid = inhrelid
	WHERE inhparent = 'meter.meter_event'::regclass)
SQL

# The nodes of a plan, all of them.
sub nodes { my ($plan) = @_; return ($plan, map { nodes($_) } @{ $plan->{Plans} // [] }) }

# Asks for usage in a session of its own, after statements that are rolled back with it. What it did
# with meter.meter_event: by the plans, the scans there were and the rows they looked at; by the
# counters, the scans, rows and index entries; what it answered, and whether the events say the same.
sub ask
{
	my ($arguments, $condition, @before) = @_;
	my ($aggregation) = $arguments =~ /aggregation => '(\w+)'/;
	my ($start, $end) = map { "extract(epoch FROM timestamptz '$_')" } $arguments =~ /'([\d-]+(?: [\d:.]+)?)', '([\d-]+(?: [\d:.]+)?)'/;
	my $plain_value = !$aggregation ? 'sum(value)'
	  : $aggregation eq 'unique_count' ? 'count(DISTINCT ' . ($arguments =~ /property => 'user_id'/ ? 'user_id' : q(dimensions -> 'model')) . ')'
	  : $aggregation eq 'weighted_sum' ? qq(round(sum(value * ($end - GREATEST(extract(epoch FROM "timestamp"), $start))) * 1000000, 20) / (($end - $start) * 1000000))
	  : $aggregation eq 'first' ? '(array_agg(value ORDER BY "timestamp", id))[1]'
	  : $aggregation eq 'last' ? '(array_agg(value ORDER BY "timestamp" DESC, id DESC))[1]' : "$aggregation(value)";
	my ($status, $out, $err) = $node->psql('postgres', join "\n", "LOAD 'auto_explain';", 'BEGIN;', map({ "$_;" } @before), "$fetched;",
		"SET LOCAL auto_explain.log_min_duration = 0; SET LOCAL auto_explain.log_analyze = on; SET LOCAL auto_explain.log_timing = off;",
		"SET LOCAL auto_explain.log_nested_statements = on; SET LOCAL auto_explain.log_format = json; SET LOCAL client_min_messages = log;",
		"SELECT 'answer', sum(value), sum(event_count) FROM meter.usage($arguments);",
		"SET LOCAL auto_explain.log_min_duration = -1; SET LOCAL client_min_messages = error;", "$fetched;",
		"SELECT 'plain', $plain_value, count(*) FILTER (WHERE " . ($aggregation && $aggregation eq 'weighted_sum' ? qq(extract(epoch FROM "timestamp") >= $start) : 'true') . ") FROM meter.meter_event WHERE $condition;", 'ROLLBACK;');
	die $err if $status != 0;
	my @lines = split /\n/, $out;
	my ($before, $after) = map { [ split /\|/ ] } grep { /^\d+\|\d+\|\d+$/ } @lines;
	my ($answer) = map { /^answer\|(.*)/ } @lines;
	my ($plain)  = map { /^plain\|(.*)/ } @lines;
	s/(\.\d*?)0+(?=\||$)/$1/, s/\.(?=\||$)// for $answer, $plain;
	my ($scans, $rows, $queries) = (0, 0, 0);
	while ($err =~ /duration: [\d.]+ ms  plan:\s*(\{.*?^\})/msg)
	{
		my $query = decode_json($1);
		++$queries;
		for my $node (grep { ($_->{'Relation Name'} // '') =~ /^meter_event/ && $_->{'Actual Loops'} > 0 } nodes($query->{Plan}))
		{
			$scans += $node->{'Actual Loops'};
			$rows += $node->{'Actual Loops'} * ($node->{'Actual Rows'} + ($node->{'Rows Removed by Filter'} // 0) + ($node->{'Rows Removed by Index Recheck'} // 0));
		}
	}
	# The call itself, and at least one query of its own.
	die "no plans in: $err" if $queries < 2;
	return { scans => $scans, rows => $rows, counted => [ map { $after->[$_] - $before->[$_] } 0 .. 2 ], answer => $answer, plain => $plain };
}

# How many events a condition holds for.
sub events { return $node->safe_psql('postgres', "SELECT count(*) FROM meter.meter_event WHERE $_[0]") }

# No scan of the events, and nothing fetched, by plans and counters.
sub none
{
	my ($name, $arguments, $condition, @before) = @_;
	my $seen = ask($arguments, $condition, @before);
	is($seen->{answer}, $seen->{plain}, "$name: the answer is right");
	is_deeply([ @$seen{qw(scans rows)} ], [ 0, 0 ], "$name: no plan has a scan of the events that was executed");
	is_deeply($seen->{counted}, [ 0, 0, 0 ], "$name: nothing was fetched from the events or their indexes");
}

# So many events and no more.
sub fetches
{
	my ($name, $edges, $arguments, $condition, @before) = @_;
	my $wanted = events("$condition AND ($edges)");
	my $seen = ask($arguments, $condition, @before);
	cmp_ok($wanted, '>', 0, "$name: there are $wanted events at the edges");
	is($seen->{answer}, $seen->{plain}, "$name: the answer is right");
	is($seen->{rows}, $wanted, "$name: the plans' scans looked at those alone");
	is_deeply([ @{ $seen->{counted} }[ 1, 2 ] ], [ $wanted, $wanted ], "$name: and nothing more was fetched");
}

my $tokens = "meter_id = (SELECT id FROM meter.meter WHERE event_name = 'tokens')";
my $january = q("timestamp" >= '2026-01-01' AND "timestamp" < '2026-02-01');
my $pending = "SELECT meter.record_event('tokens', 'dense', 5, '{\"model\": \"m1\"}', event_time => '2026-01-15 12:34:56')";

# --- what the period cuts into whole months, days and hours

for ([ 'all is folded' ], [ 'a delta is pending', $pending ])
{
	my ($when, @before) = @$_;
	none("$when: a month of a user", q('tokens', '2026-01-01', '2026-02-01', 'dense'), "$tokens AND $january AND user_id = 'dense'", @before);
	none("$when: by model", q('tokens', '2026-01-01', '2026-02-01', 'dense', group_by => '{model}'), "$tokens AND $january AND user_id = 'dense'", @before);
	none("$when: by model and day", q('tokens', '2026-01-01', '2026-02-01', 'dense', group_by => '{model}', bucket => 'day'), "$tokens AND $january AND user_id = 'dense'", @before);
	none("$when: by hour", q('tokens', '2026-01-01', '2026-02-01', 'dense', bucket => 'hour'), "$tokens AND $january AND user_id = 'dense'", @before);
	none("$when: a filter", q('tokens', '2026-01-01', '2026-02-01', 'dense', filter => '{"model": "m2"}'), "$tokens AND $january AND user_id = 'dense' AND dimensions = '{\"model\": \"m2\"}'", @before);
	none("$when: by day in New York", q('tokens', '2026-01-01 05:00', '2026-02-01 05:00', 'dense', bucket => 'day', time_zone => 'America/New_York'),
		qq($tokens AND "timestamp" >= '2026-01-01 05:00' AND "timestamp" < '2026-02-01 05:00' AND user_id = 'dense'), @before);
	none("$when: a cut at whole hours", q('tokens', '2026-01-03 10:00', '2026-01-28 17:00', 'dense'),
		qq($tokens AND "timestamp" >= '2026-01-03 10:00' AND "timestamp" < '2026-01-28 17:00' AND user_id = 'dense'), @before);
	none("$when: the sparse user's month", q('tokens', '2026-01-01', '2026-02-01', 'sparse', group_by => '{model}'), "$tokens AND $january AND user_id = 'sparse'", @before);
	none("$when: a month of all users", q('tokens', '2026-01-01', '2026-02-01', group_by => '{user_id,model}'), "$tokens AND $january", @before);
	none("$when: a month's totals by day", q('tokens', '2026-01-01', '2026-02-01', group_by => '{model}', bucket => 'day'), "$tokens AND $january", @before);
	none("$when: $_", "'tokens', '2026-01-01', '2026-02-01', 'dense', aggregation => '$_'", "$tokens AND $january AND user_id = 'dense'", @before) for qw(last max min);
}
# How many models and users there are, and the level of a month with the balance of all before it.
for ([ 'all is folded' ], [ 'a delta is pending', $pending ])
{
	my ($when, @before) = @$_;
	my $period = q('tokens', '2026-01-01', '2026-02-01');
	my $early = qq($tokens AND "timestamp" < '2026-02-01');
	none("$when: models of a month", "$period, aggregation => 'unique_count', property => 'model'", "$tokens AND $january", @before);
	none("$when: models of a user's month", "$period, 'dense', aggregation => 'unique_count', property => 'model'", "$tokens AND $january AND user_id = 'dense'", @before);
	none("$when: users of a month", "$period, aggregation => 'unique_count', property => 'user_id'", "$tokens AND $january", @before);
	none("$when: models of whole hours", q('tokens', '2026-01-03 10:00', '2026-01-28 17:00', 'dense', aggregation => 'unique_count', property => 'model'),
		qq($tokens AND "timestamp" >= '2026-01-03 10:00' AND "timestamp" < '2026-01-28 17:00' AND user_id = 'dense'), @before);
	none("$when: the level of a month", "$period, aggregation => 'weighted_sum'", $early, @before);
	none("$when: the level of a user's month", "$period, 'dense', aggregation => 'weighted_sum', filter => '{\"model\": \"m1\"}'",
		"$early AND user_id = 'dense' AND dimensions = '{\"model\": \"m1\"}'", @before);
	none("$when: the level of a sparse user's month", "$period, 'sparse', aggregation => 'weighted_sum'", "$early AND user_id = 'sparse'", @before);
	none("$when: the level over whole hours", q('tokens', '2026-01-03 10:00', '2026-01-28 17:00', 'dense', aggregation => 'weighted_sum'),
		qq($tokens AND "timestamp" < '2026-01-28 17:00' AND user_id = 'dense'), @before);
}
# Where nothing lies beyond the edge, a cut month is a whole one.
none('month to date', q('calls', '2026-01-01', '2026-01-31 03:04:05.678', 'dense', aggregation => 'sum'),
	q(meter_id = (SELECT id FROM meter.meter WHERE event_name = 'calls')));

# --- a period cut within an hour

my $cut = q("timestamp" >= '2026-01-03 10:20:30' AND "timestamp" < '2026-01-28 17:45:15.5');
my $edges = q("timestamp" < '2026-01-03 11:00' OR "timestamp" >= '2026-01-28 17:00');
for ([ 'all is folded' ], [ 'a delta is pending', $pending ])
{
	my ($when, @before) = @$_;
	fetches("$when: a cut month of a user", $edges, q('tokens', '2026-01-03 10:20:30', '2026-01-28 17:45:15.5', 'dense'), "$tokens AND $cut AND user_id = 'dense'", @before);
	fetches("$when: by model and day", $edges, q('tokens', '2026-01-03 10:20:30', '2026-01-28 17:45:15.5', 'dense', group_by => '{model}', bucket => 'day'),
		"$tokens AND $cut AND user_id = 'dense'", @before);
	fetches("$when: a month's totals", $edges, q('tokens', '2026-01-03 10:20:30', '2026-01-28 17:45:15.5', group_by => '{model}'), "$tokens AND $cut", @before);
	# 18:30 in UTC: each day cuts an hour.
	fetches("$when: by day in Kolkata", q(extract(hour FROM "timestamp" AT TIME ZONE 'UTC') = 18),
		q('tokens', '2026-01-01', '2026-02-01', 'dense', bucket => 'day', time_zone => 'Asia/Kolkata'), "$tokens AND $january AND user_id = 'dense'", @before);
	# Of a user without cells for days, the events of the period in that month.
	fetches("$when: a cut month of the sparse user", 'true', q('tokens', '2026-01-03 10:20:30', '2026-01-28 17:45:15.5', 'sparse'), "$tokens AND $cut AND user_id = 'sparse'", @before);
	fetches("$when: days of the sparse user", 'true', q('tokens', '2026-01-01', '2026-02-01', 'sparse', group_by => '{model}', bucket => 'day'), "$tokens AND $january AND user_id = 'sparse'", @before);
	# Whole months on both sides of the one that is cut are not read.
	fetches("$when: the sparse user's months, one cut", q("timestamp" >= '2026-02-01'), q('tokens', '2025-12-01', '2026-02-12 06:07:08', 'sparse'),
		qq($tokens AND "timestamp" < '2026-02-12 06:07:08' AND user_id = 'sparse'), @before);
	fetches("$when: days of all users", q(user_id = 'sparse'), q('tokens', '2026-01-03', '2026-01-28', group_by => '{user_id}'),
		qq($tokens AND "timestamp" >= '2026-01-03' AND "timestamp" < '2026-01-28'), @before);
}

for ([ 'all is folded' ], [ 'a delta is pending', $pending ])
{
	my ($when, @before) = @$_;
	my $period = q('tokens', '2026-01-03 10:20:30', '2026-01-28 17:45:15.5', 'dense');
	fetches("$when: models of a cut month", $edges, "$period, aggregation => 'unique_count', property => 'model'", "$tokens AND $cut AND user_id = 'dense'", @before);
	# What is carried in ends within the hour in which the period begins.
	fetches("$when: the level of a cut month", q("timestamp" >= '2026-01-03 10:00' AND "timestamp" < '2026-01-03 11:00' OR "timestamp" >= '2026-01-28 17:00'),
		"$period, aggregation => 'weighted_sum'", qq($tokens AND "timestamp" < '2026-01-28 17:45:15.5' AND user_id = 'dense'), @before);
	# Of the first event the cells know the timestamp.
	fetches("$when: the first event of a month", q("timestamp" < '2026-01-01 00:06:01.5'), q('tokens', '2026-01-01', '2026-02-01', 'dense', aggregation => 'first'),
		"$tokens AND $january AND user_id = 'dense'", @before);
	fetches("$when: of all users", q("timestamp" < '2026-01-01 00:06:01.5'), q('tokens', '2026-01-01', '2026-02-01', aggregation => 'first'), "$tokens AND $january", @before);
}

# --- where events are read, it is seen: what the user's days were taken for is taken away

my $read = ask(q('tokens', '2026-01-03', '2026-01-28', 'dense'), qq($tokens AND "timestamp" >= '2026-01-03' AND "timestamp" < '2026-01-28' AND user_id = 'dense'),
	"DELETE FROM meter.rollup_days");
my $all = events(qq($tokens AND "timestamp" >= '2026-01-03' AND "timestamp" < '2026-01-28' AND user_id = 'dense'));
is($read->{answer}, $read->{plain}, 'a month read from the events: the answer is right');
cmp_ok($read->{rows}, '>=', $all, 'the plans show it');
cmp_ok($read->{counted}[1], '>=', $all, 'and so do the counters');
$node->stop;
done_testing();
