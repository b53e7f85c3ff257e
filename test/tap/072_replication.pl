# slow: it waits for servers to catch up.
# Usage where the tables are copies: on a hot standby while the primary records and folds, and after
# its promotion; on a logical subscriber, while it is one and after; and a publisher that publishes
# all of its tables.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(sleep time);

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$primary->append_conf('postgresql.conf', "timezone = 'UTC'\nautovacuum = off\nlc_messages = 'C'\n");
$primary->start;
# The wall clock, so that "now" lies in a partition and the next months have theirs.
$primary->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT FROM meter.create_meter('calls', 'count');
SET client_min_messages = error;
SELECT count(*) FROM meter.create_partitions(2, now() - interval '2 months');
SQL

# Records so many events, over the last ten days, with keys that begin with a prefix.
sub record
{
	my ($prefix, $count) = @_;
	return "SELECT count(meter.record_event('tokens', CASE WHEN i % 10 = 0 THEN 'user-' || i % 70 ELSE 'ann' END, i / 8.0,"
	  . " jsonb_build_object('model', 'm' || i % 3), '$prefix-' || i, now() - i * interval '14400 seconds' / $count * 60)) FROM generate_series(1, $count) AS i;";
}

# What usage says in several ways, less what the events add up to, and the other way round: no rows if
# usage is exact. One statement, so under one snapshot.
my $view = <<'SQL';
CREATE VIEW public.differences AS
WITH months AS (SELECT date_trunc('month', now(), 'UTC') - interval '2 months' AS f, now() + interval '1 hour' AS t),
cut AS (SELECT now() - interval '8 days 01:02:03.456' AS f, now() - interval '1 day 00:07:08' AS t),
e AS (SELECT e.*, m.event_name FROM meter.meter_event AS e JOIN meter.meter AS m ON m.id = e.meter_id
	WHERE NOT EXISTS (SELECT FROM meter.event_void AS v WHERE v.user_id = e.user_id AND v.meter_id = e.meter_id AND v.event_timestamp = e."timestamp" AND v.event_id = e.id)),
ours AS MATERIALIZED (
	SELECT 'months' AS question, u.user_id, u.dimensions, u.bucket_start AS at, u.value, u.event_count FROM months, meter.usage('tokens', f, t, group_by => '{user_id,model}') AS u
	UNION ALL SELECT 'cut', u.user_id, u.dimensions, u.bucket_start, u.value, u.event_count FROM cut, meter.usage('tokens', f, t, group_by => '{user_id}') AS u
	UNION ALL SELECT 'days', u.user_id, u.dimensions, u.bucket_start, u.value, u.event_count FROM months, meter.usage('tokens', f, t, 'ann', bucket => 'day') AS u
	UNION ALL SELECT 'last', NULL, u.dimensions, NULL, u.value, u.event_count FROM months, meter.usage('tokens', f, t, group_by => '{model}', aggregation => 'last') AS u
	UNION ALL SELECT 'report', r.user_id, to_jsonb(r.event_name), NULL, r.value, r.event_count FROM months, meter.usage_report(f, t) AS r),
plain AS (
	SELECT 'months', user_id, jsonb_build_object('model', dimensions -> 'model') AS d, f, sum(value), count(*) FROM e, months
		WHERE event_name = 'tokens' AND "timestamp" >= f AND "timestamp" < t GROUP BY user_id, d, f
	UNION ALL SELECT 'cut', user_id, '{}', f, sum(value), count(*) FROM e, cut WHERE event_name = 'tokens' AND "timestamp" >= f AND "timestamp" < t GROUP BY user_id, f
	UNION ALL SELECT 'days', 'ann', '{}', date_trunc('day', "timestamp", 'UTC') AS s, sum(value), count(*) FROM e, months
		WHERE event_name = 'tokens' AND user_id = 'ann' AND "timestamp" >= f AND "timestamp" < t GROUP BY s
	UNION ALL SELECT 'last', NULL, jsonb_build_object('model', dimensions -> 'model') AS d, NULL, (array_agg(value ORDER BY "timestamp" DESC, id DESC))[1], count(*) FROM e
		WHERE event_name = 'tokens' GROUP BY d
	UNION ALL SELECT 'report', user_id, to_jsonb(event_name), NULL, CASE event_name WHEN 'calls' THEN count(*) ELSE sum(value) END, count(*) FROM e, months
		WHERE "timestamp" >= f AND "timestamp" < t GROUP BY user_id, event_name)
SELECT 'usage' AS of, * FROM (TABLE ours EXCEPT ALL TABLE plain) AS t UNION ALL SELECT 'plain', * FROM (TABLE plain EXCEPT ALL TABLE ours) AS t
SQL
$primary->safe_psql('postgres', $view);
my $compared = 'TABLE differences';
my $verified = "SELECT * FROM meter.verify(now() - interval '3 months', now() + interval '1 month');";
my $state = 'SELECT (SELECT count(*) FROM meter.meter_event), (SELECT count(*) FROM meter.rollup_pending)';

# Usage is exact, and the cells are what they should be.
sub is_exact
{
	my ($node, $name) = @_;
	is($node->safe_psql('postgres', "$compared;\n$verified"), '', "$name: usage is exact, and so are the cells");
}

# What a statement is refused with.
sub refused
{
	my ($node, $statement, $error, $name) = @_;
	my ($status, $out, $err) = $node->psql('postgres', $statement);
	like($err, $error, $name);
}

# --- a hot standby

$primary->safe_psql('postgres', record('first', 500));
$primary->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'one', has_streaming => 1);
# A fold updates cells, and what it leaves of them is pruned: without feedback that is a conflict with
# snapshots of the standby.
$standby->append_conf('postgresql.conf', "max_standby_streaming_delay = -1\nhot_standby_feedback = on\nwal_receiver_status_interval = 1s\n");
$standby->start;

is($standby->safe_psql('postgres', $state), '500|500', 'standby: with deltas pending');
is_exact($standby, 'standby, deltas pending');
my $session = $standby->background_psql('postgres');
$session->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $xmin = $session->query_safe("$state; SELECT pg_snapshot_xmin(pg_current_snapshot())") =~ s/.*\n//sr;
$primary->poll_query_until('postgres', "SELECT backend_xmin = '$xmin' FROM pg_stat_replication") or die 'no feedback from the standby';
$primary->safe_psql('postgres', "SELECT meter.fold(); SELECT setval('meter.rollup_folded_seq', 100000);" . record('second', 400));
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', $state), '900|400', 'standby: a fold has come, and more deltas');
is_exact($standby, 'standby, cells and deltas');
is($session->query_safe($state), '500|500', 'standby: a snapshot from before the fold');
is($session->query_safe("$compared;"), '', 'standby: its usage is that of its events');
$primary->safe_psql('postgres', 'SELECT meter.fold();' . record('third', 100));
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is($standby->safe_psql('postgres', 'SELECT recorded FROM meter.rollup_state ORDER BY version DESC LIMIT 1'), '{0,1}', 'standby: a generation was begun');
is_exact($standby, 'standby, another generation');
is($session->query_safe("$compared;"), '', 'standby: under the old snapshot, still');
$session->query_safe('COMMIT');
$session->quit;

# Asked over and over while the primary records and folds: at whatever point of the replay.
my $directory = PostgreSQL::Test::Utils::tempdir;
append_to_file("$directory/load.sql", join "\n", map { my $round = $_;
	(record("load-$round", 20), $round % 3 ? 'SELECT meter.fold();' : '', $round % 10 ? '' : "SELECT setval('meter.rollup_folded_seq', 100000);",
	 $round % 15 ? '' : "SELECT meter.rebuild(now() - interval '1 month', now());") } 1 .. 150);
my $load = IPC::Run::start([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-d', $primary->connstr('postgres'), '-f', "$directory/load.sql" ], '<', \undef, '>', \my $load_out, '2>', \my $load_err);
my ($asked, $wrong, %seen) = (0, '');
my $reader = $standby->background_psql('postgres');
while ($load->pumpable)
{
	$load->pump_nb;
	$reader->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
	$seen{ $reader->query_safe($state) }++;
	$wrong ||= $reader->query_safe("$compared;");
	$reader->query_safe('COMMIT');
	# And each statement by itself, whose snapshot may be older than the moment it looks.
	$wrong ||= $reader->query_safe("$compared;") for 1 .. 3;
	++$asked;
}
$load->finish;
$reader->quit;
is($load_err, '', 'the primary recorded, folded and rebuilt');
is($wrong, '', 'standby: usage was exact at every point of the replay');
cmp_ok(scalar keys %seen, '>', 2, "standby: at some points of it (asked $asked times, " . keys(%seen) . ' states)');
$primary->safe_psql('postgres', <<'SQL');
SELECT meter.close_period(now() - interval '1 day');
SELECT count(meter.void_event('tokens', user_id, id, "timestamp", 'wrong')) FROM (SELECT e.* FROM meter.meter_event AS e JOIN meter.meter AS m ON m.id = e.meter_id
	WHERE event_name = 'tokens' AND "timestamp" < now() - interval '1 day' ORDER BY e.id LIMIT 50) AS e;
SQL
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
is_exact($standby, 'standby, after the load');
is($standby->safe_psql('postgres', 'SELECT sum(event_count) FROM meter.late_usage()'), -50, 'standby: corrections of a closed period are late');
is($standby->safe_psql('postgres', 'SELECT count(*) > 0 FROM meter.list_statements()'), 't', 'standby: statements are listed');
is($standby->safe_psql('postgres', "SELECT (SELECT sum(event_count) FROM meter.explain_usage('tokens', '2000-01-01', now())) = (SELECT event_count FROM meter.usage('tokens', '2000-01-01', now()))"), 't', 'standby: usage is explained');

refused($standby, "SELECT meter.$_->[0]", qr/ERROR:  cannot execute $_->[1] in a read-only transaction/, "standby: $_->[0] says why it cannot")
  for [ "record_event('tokens', 'ann')", 'meter\.record_event\(\)' ], [ q{record_events('[{"event_name": "tokens", "user_id": "ann"}]')}, 'meter\.record_events\(\)' ],
  [ q{ingest('{"event_name": "tokens", "user_id": "ann"}')}, 'meter\.ingest\(\)' ], [ 'fold()', 'meter\.fold\(\)' ], [ 'rebuild(now(), now())', 'meter\.rebuild\(\)' ],
  [ "void_event('tokens', 'ann', 'k', 'r')", 'meter\.void_event\(\)' ], [ "close_period('2020-01-01')", 'meter\.close_period\(\)' ],
  [ "create_meter('more')", '\S+' ];
is($standby->safe_psql('postgres', "SELECT count(*) FROM meter.list_events('tokens', max_rows => 10)"), 10, 'standby: events are listed');

my $events = $primary->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event');
$primary->safe_psql('postgres', "SELECT setval('meter.rollup_folded_seq', 99999)");
$primary->wait_for_catchup($standby, 'replay', $primary->lsn('insert'));
$standby->promote;
is($standby->safe_psql('postgres', q{SELECT count(*) = count(DISTINCT meter.record_event('tokens', e.user_id, e.value, e.dimensions, e.idempotency))
	AND bool_and(meter.record_event('tokens', e.user_id, e.value, e.dimensions, e.idempotency) = e.id) FROM meter.meter_event AS e WHERE idempotency ~ '^first'}),
	't', 'promoted: retries find their events');
is($standby->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event'), $events, 'promoted: and record nothing');
my $last = $standby->safe_psql('postgres', 'SELECT max(id) FROM meter.meter_event');
$standby->safe_psql('postgres', record('promoted', 300));
is_exact($standby, 'promoted, more was recorded');
cmp_ok($standby->safe_psql('postgres', 'SELECT meter.fold()'), '>=', 300, 'promoted: it folds');
$standby->safe_psql('postgres', record('again', 50));
is($standby->safe_psql('postgres', "SELECT count(*) = count(DISTINCT id) AND count(*) FILTER (WHERE id > $last) = 350 FROM meter.meter_event"), 't', 'promoted: ids are new');
is($standby->safe_psql('postgres', 'SELECT count(DISTINCT generation) FROM meter.rollup_pending'), 1, 'promoted: deltas are of the generation begun since');
is_exact($standby, 'promoted, folded, and recorded again');
$standby->stop;

# --- a publisher of all of its tables

$primary->safe_psql('postgres', "CREATE PUBLICATION everything FOR ALL TABLES WITH (publish_via_partition_root = true)");
$primary->safe_psql('postgres', record('published', 200) . "SELECT meter.fold();
	SELECT setval('meter.rollup_folded_seq', 100000);" . record('published2', 20) . "SELECT meter.fold(); SELECT meter.fold();
	SELECT meter.rebuild(now() - interval '1 month', now()); VACUUM meter.rollup_pending;
	SELECT count(*) FROM meter.create_partitions(4); SELECT FROM meter.create_meter('brief'); SELECT meter.drop_meter('brief'); SELECT meter.grant_access('pg_monitor', 'reader');
	CREATE ROLE app; SELECT meter.grant_access('app', 'writer', 'default');");
is($primary->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'publisher: it records, folds, rebuilds, vacuums, makes partitions, drops meters');
is_exact($primary, 'publisher');
is($primary->safe_psql('postgres', 'BEGIN; WITH gone AS (DELETE FROM meter.meter_event RETURNING 1) SELECT count(*) > 0 FROM gone; ROLLBACK'), 't', 'publisher: events can be deleted, as drop_events does');

# --- a subscriber

my $subscriber = PostgreSQL::Test::Cluster->new('subscriber');
$subscriber->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$subscriber->append_conf('postgresql.conf', "timezone = 'UTC'\nlc_messages = 'C'\nshared_preload_libraries = 'meter'\nmeter.worker_databases = 'postgres'\nmeter.fold_interval = 100ms\n");
$subscriber->start;
$primary->safe_psql('postgres', record('before', 300) . "SELECT setval('meter.rollup_folded_seq', 100000); SELECT meter.fold();" . record('pending', 100));
$subscriber->safe_psql('postgres', "CREATE EXTENSION meter; CREATE ROLE app; $view");
# What the subscriber makes itself: its partitions, and its roles' access.
my $connection = $primary->connstr('postgres') =~ s/'/''/gr;
$subscriber->safe_psql('postgres', "SET client_min_messages = error; SELECT count(*) FROM meter.create_partitions(4, now() - interval '2 months');
	CREATE SUBSCRIPTION copy CONNECTION '$connection' PUBLICATION everything;");
$subscriber->wait_for_subscription_sync($primary, 'copy');

# Everything that is published is the same here.
my $counts = join(' UNION ALL ', map { "SELECT '$_', count(*), md5(string_agg(md5(t::text), ',' ORDER BY t::text)) FROM meter.$_ AS t" }
  qw(meter meter_event event_key access rollup_pending rollup_generation rollup_state rollup rollup_total rollup_days rollup_month rollup_meter)) . ' ORDER BY 1';
sub is_copy
{
	my ($name) = @_;
	$primary->wait_for_catchup('copy');
	is($subscriber->safe_psql('postgres', $counts), $primary->safe_psql('postgres', $counts), "$name: every table is as on the publisher");
	is_exact($subscriber, $name);
}
is_copy('subscriber, copied');
like($primary->safe_psql('postgres', $state), qr/\|100$/, 'subscriber: with deltas pending');
$primary->safe_psql('postgres', 'SELECT meter.fold();' . record('applied', 60));
is_copy('subscriber, a fold applied');
like($subscriber->safe_psql('postgres', $state), qr/\|60$/, 'subscriber: it took away the deltas that the publisher folded');
$primary->safe_psql('postgres', "SELECT meter.rebuild(now() - interval '1 month', now());" . record('rebuilt', 10));
is_copy('subscriber, a rebuild applied');
like($subscriber->safe_psql('postgres', "SELECT query FROM pg_stat_activity WHERE backend_type = 'meter worker'"), qr/a subscription writes the rollups/, 'subscriber: the worker leaves it alone');

# Neither fold nor rebuild may write what the publisher will write.
$primary->safe_psql('postgres', "SELECT FROM meter.create_meter('late'); SELECT meter.record_event('late', 'ann', 5)");
is_copy('subscriber, another meter');
# A partition that the publisher alone has.
$primary->safe_psql('postgres', "SET client_min_messages = error; SELECT count(*) FROM meter.create_partitions(0, '2020-01-15');
	SELECT meter.record_event('late', 'ann', 7, event_time => '2020-01-20'); SELECT meter.fold(); SELECT meter.record_event('late', 'ann', 8, event_time => '2020-01-21')");
is_copy('subscriber, another partition');
is($subscriber->safe_psql('postgres', "SELECT value, event_count FROM meter.usage('late', '2020-01-01', '2020-02-01')"), '15|2', 'subscriber: usage counts what lies there');
refused($subscriber, 'SELECT meter.fold()', qr/ERROR:  cannot fold: a subscription writes the rollups\nHINT:  /, 'subscriber: fold is refused');
refused($subscriber, 'SELECT meter.rebuild(now(), now() + interval \'1 day\')', qr/ERROR:  cannot rebuild: a subscription writes the rollups\nHINT:  /, 'subscriber: rebuild is refused');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION copy DISABLE');
refused($subscriber, 'SELECT meter.fold()', qr/cannot fold: a subscription writes the rollups/, 'subscriber: also while the subscription is disabled');
$subscriber->safe_psql('postgres', 'ALTER SUBSCRIPTION copy ENABLE');
$primary->safe_psql('postgres', 'SELECT meter.fold();' . record('more', 30));
is_copy('subscriber, the publisher goes on');
unlike(slurp_file($subscriber->logfile), qr/(?:ERROR|FATAL).*(?:apply|duplicate key|relation)/, 'subscriber: nothing stopped the subscription');

# --- the subscriber takes over: the steps of docs/rollups.md

$subscriber->safe_psql('postgres', 'DROP SUBSCRIPTION copy');
my $document = slurp_file(($ENV{METER_SOURCE} || "$FindBin::Bin/../..") . '/docs/rollups.md');
my ($step) = $document =~ /^```\n([^`]*setval[^`]*)^```$/m;
ok($step, 'the step is documented');
is($subscriber->safe_psql('postgres', "SELECT last_value FROM meter.meter_id_seq"), 1, 'taking over: the sequences are as they were made');
$subscriber->safe_psql('postgres', $step);
$last = $subscriber->safe_psql('postgres', 'SELECT max(id) FROM meter.meter_event');
my $recorded = $subscriber->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event');
is($subscriber->safe_psql('postgres', q{SELECT bool_and(meter.record_event('tokens', e.user_id, e.value, e.dimensions, e.idempotency) = e.id)
	FROM meter.meter_event AS e WHERE idempotency ~ '^(before|applied)'}), 't', 'taking over: retries find their events');
$subscriber->safe_psql('postgres', record('over', 200));
is($subscriber->safe_psql('postgres', "SELECT count(*) - $recorded, count(*) - count(DISTINCT id), count(*) FILTER (WHERE id > $last) FROM meter.meter_event"), '200|0|200', 'taking over: ids are new');
is($subscriber->safe_psql('postgres', "SELECT id > (SELECT max(id) FROM meter.meter WHERE event_name <> 'new') FROM meter.create_meter('new')"), 't', 'taking over: so are those of meters');
is_exact($subscriber, 'taking over, recorded');
my $as_app = "SET ROLE app; SELECT meter.record_event('tokens', 'ann', 1, idempotency => 'of-app') > $last";
refused($subscriber, $as_app, qr/permission denied/, 'taking over: a role has its row in meter.access, and no rights yet');
$subscriber->safe_psql('postgres', "SELECT meter.grant_access('app', 'writer', 'default')");
is($subscriber->safe_psql('postgres', $as_app), 't', 'taking over: granted again, it has');
my $start = time;
sleep 0.2 while time - $start < 60 && $subscriber->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending') > 0;
is($subscriber->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'taking over: the worker folds');
$subscriber->safe_psql('postgres', record('over2', 20));
is_exact($subscriber, 'taking over, folded and recorded again');
is($subscriber->safe_psql('postgres', "SELECT meter.rebuild(now() - interval '1 month', now()) > 0"), 't', 'taking over: it rebuilds');
is_exact($subscriber, 'taking over, rebuilt');

$subscriber->stop;
$primary->stop;
done_testing();
