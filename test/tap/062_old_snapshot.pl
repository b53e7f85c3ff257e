# slow: it folds hundreds of times.
# Under a snapshot that is held for thousands of folds: usage stays exact under it, under new ones and
# after its end, and what a question visits does not grow with the number of folds. Likewise where a
# prepared transaction or a replication slot holds versions back.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 'logical');
$node->append_conf('postgresql.conf', "autovacuum = off\ntimezone = 'UTC'\nfsync = off\nmax_prepared_transactions = 2\nhot_standby_feedback = off\n");
$node->start;

sub sql { return $node->safe_psql('postgres', $_[0]) }

# Usage of March 2026, of one user and of all, and the same by plain SQL; "t" where they agree.
my $month = "'2026-03-01', '2026-04-01'";
my $agrees = <<"SQL";
SELECT NOT EXISTS ((SELECT * FROM ours EXCEPT ALL SELECT * FROM theirs) UNION ALL (SELECT * FROM theirs EXCEPT ALL SELECT * FROM ours)) FROM (SELECT) AS one
SQL
my $exact = <<"SQL";
WITH ours AS (SELECT user_id, dimensions->>'model' AS model, value, event_count FROM meter.usage('tokens', $month, group_by => '{user_id,model}')),
theirs AS (SELECT user_id, dimensions->>'model', sum(value), count(*) FROM meter.meter_event GROUP BY 1, 2) $agrees
SQL
my $exact_last = <<"SQL";
WITH ours AS (SELECT user_id, value FROM meter.usage('tokens', $month, group_by => '{user_id}', aggregation => 'last')),
theirs AS (SELECT DISTINCT ON (user_id) user_id, value FROM meter.meter_event ORDER BY user_id, "timestamp" DESC, id DESC) $agrees
SQL
my $verified = "SELECT count(*) FROM meter.verify($month)";

sql(<<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens', dimensions => '{model}');
-- So many folds, each after a few events of two users and of one more.
CREATE PROCEDURE fold_often(folds int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..folds LOOP
        PERFORM count(*) FROM meter.record_events((
            SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', u, 'value', (random() * 100)::numeric(9, 4),
                'dimensions', jsonb_build_object('model', 'm' || m), 'timestamp', timestamptz '2026-03-10 08:00Z' + random() * interval '3 hours'))
            FROM unnest(ARRAY['ann', 'bob', 'u' || i % 20]) AS u, generate_series(1, 3) AS m));
        COMMIT;
        PERFORM meter.fold();
        COMMIT;
    END LOOP;
END $$;
CALL fold_often(5);
SQL

# How many pages a statement visits in the tables of deltas and cells, their indexes included.
sub visited
{
	my ($statement) = @_;
	my $counted = <<'SQL';
SELECT sum(heap_blks_hit + heap_blks_read + idx_blks_hit + idx_blks_read) FROM pg_statio_user_tables WHERE schemaname = 'meter' AND relname LIKE 'rollup%'
SQL
	# A first call in the session, for the plans; twice, for hints.
	my $flush = 'SELECT pg_stat_force_next_flush();';
	my ($before, $after) = (split /\n/, sql("\\o /dev/null\n$statement; $statement;\n$flush\nSELECT 1;\n\\o\n$counted;\n\\o /dev/null\n$statement;\n$flush\nSELECT 1;\n\\o\n$counted;"));
	return $after - $before;
}
my $question = "SELECT * FROM meter.usage('tokens', $month, user_id => 'ann', group_by => '{model}')";
my $everyone = "SELECT * FROM meter.usage('tokens', $month, group_by => '{model}')";

sub runs { return sql("SELECT COALESCE((SELECT cardinality(generations) FROM meter.rollup_state ORDER BY version DESC LIMIT 1), 0)") }

# Whether deltas lie in runs. Now and then all are folded into cells while a snapshot is held, too, each time
# after longer; a fold that follows leaves a run then.
sub in_runs
{
	# The younger the snapshot, the sooner it has become an eighth older.
	for (1 .. 100) { return 1 if runs() > 0; sql('CALL fold_often(1)'); }
	return 0;
}


# --- a snapshot

my $fresh = visited($question);
my $holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ');
my $then = $holder->query_safe("SELECT * FROM meter.usage('tokens', $month, group_by => '{user_id,model}')");
is($holder->query_safe($exact), 't', 'exact under a snapshot');
sql('CALL fold_often(300)');
my $early = visited($question);
sql('CALL fold_often(2000)');
my ($late, $late_everyone) = (visited($question), visited($everyone));
note("pages visited: $fresh without a snapshot held, $early after 300 folds under one, $late after 2300 ($late_everyone for all users)");
cmp_ok($late, '<', 700, 'after 2300 folds a question visits no more than some hundreds of pages');
cmp_ok($late_everyone, '<', 700, 'nor does one about all users');
ok(in_runs(), 'deltas lie in runs');
cmp_ok(sql('SELECT count(*) FROM meter.rollup_pending'), '<', 1_000, 'few of them');
is(sql($exact), 't', 'usage is exact meanwhile');
is(sql($exact_last), 't', 'the last value too');
is(sql($verified), 0, 'and so are the cells with the deltas');
is($holder->query_safe("SELECT * FROM meter.usage('tokens', $month, group_by => '{user_id,model}')"), $then, 'the old snapshot sees what it saw');
is($holder->query_safe($exact), 't', 'which is exact');
is($holder->query_safe($verified), 0, 'cells with deltas too');

# By hand all can be folded into cells.
sql('SELECT meter.fold(into_cells => true)');
is(sql('SELECT count(*) FROM meter.rollup_pending'), 0, 'fold(into_cells => true) folds all');
is(runs(), 0, 'and leaves no run');
is(sql("$exact") . sql($verified), 't0', 'exact');
is($holder->query_safe($exact), 't', 'under the old snapshot as well');
sql('CALL fold_often(20)');
ok(in_runs(), 'then there are runs again');

# A rebuild takes those of its months.
sql("SELECT meter.rebuild($month)");
is(sql("$exact") . sql($exact_last) . sql($verified), 'tt0', 'exact after a rebuild');
is($holder->query_safe($exact) . $holder->query_safe($verified), 't0', 'under the old snapshot as well');
sql('CALL fold_often(20)');

# A trigger of somebody's may keep deltas where they are: in runs, too, that would be merged.
ok(in_runs(), 'there are runs, of bob too');
sql(<<'SQL');
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN OLD.user_id <> 'bob' THEN OLD END; END $$;
CREATE TRIGGER keep BEFORE DELETE ON meter.rollup_pending FOR EACH ROW EXECUTE FUNCTION keep();
CALL fold_often(40);
SQL
is(sql($exact) . sql($verified), 't0', 'exact with deltas that a trigger keeps');
sql('CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN CASE WHEN OLD.generation > -2 THEN OLD END; END $$; CALL fold_often(150)');
cmp_ok(runs(), '<=', 64, 'runs that it keeps are no more than there is room for');
is(sql($exact) . sql($verified), 't0', 'exact with them');
sql('CREATE OR REPLACE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN OLD; END $$; CALL fold_often(5)');
is(sql($exact) . sql($verified), 't0', 'and once it keeps none');

$holder->query_safe('COMMIT');
$holder->quit;
sql('DROP TRIGGER keep ON meter.rollup_pending');
sql('SELECT meter.fold()');
sql('CALL fold_often(3)');
is(sql('SELECT count(*) FROM meter.rollup_pending') . runs(), '00', 'once the snapshot is gone, all is folded into cells again');
is(sql("$exact") . sql($exact_last) . sql($verified), 'tt0', 'exact');

# --- other things that hold versions back

sql("CREATE TABLE other (); BEGIN; INSERT INTO other DEFAULT VALUES; PREPARE TRANSACTION 'held'");
sql('CALL fold_often(60)');
ok(in_runs(), 'a prepared transaction counts');
sql("COMMIT PREPARED 'held'");
# Not at once where an analyze or the like has a snapshot of its own.
for (1 .. 100) { sql('CALL fold_often(1)'); last if runs() == 0; select(undef, undef, undef, 0.1) }
is(runs(), 0, 'until it ends');

sql("SELECT pg_create_physical_replication_slot('held', true)");
sql('CALL fold_often(60)');
is(runs(), 0, 'a slot without a horizon does not count');

# --- numbers of another cluster

$holder = $node->background_psql('postgres');
$holder->query_safe('BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1');
sql('CALL fold_often(60)');
ok(in_runs(), 'there are runs');
my $dump = $node->basedir . '/dump.sql';
$node->command_ok([ 'pg_dump', '-f', $dump, '-d', $node->connstr('postgres') ], 'dump');
$holder->quit;
my $other = PostgreSQL::Test::Cluster->new('other');
$other->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$other->append_conf('postgresql.conf', "timezone = 'UTC'\nfsync = off\n");
$other->start;
$other->safe_psql('postgres', 'CREATE DATABASE restored');
$other->command_ok([ 'psql', '-qX', '-v', 'ON_ERROR_STOP=1', '-f', $dump, '-d', $other->connstr('restored') ], 'restore');
is($other->safe_psql('restored', $exact), 't', 'a restored database is exact, runs and all');
is($other->safe_psql('restored', $verified), 0, 'its cells too');
$other->safe_psql('restored', 'CALL fold_often(5)');
is($other->safe_psql('restored', 'SELECT cardinality(generations) FROM meter.rollup_state ORDER BY version DESC LIMIT 1'), 0, 'the numbers of another cluster hold nothing back');
is($other->safe_psql('restored', $exact) . $other->safe_psql('restored', $verified), 't0', 'exact');
# Numbers and times to come do not either.
$other->safe_psql('restored', "UPDATE meter.rollup_state SET fold_xids = array_fill('9000000000'::xid8, '{40}'), fold_times = array_fill(now() + interval '1 year', '{40}')");
$other->safe_psql('restored', 'CALL fold_often(1)');
is($other->safe_psql('restored', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'nor do numbers to come');
$other->stop;
$node->stop;
done_testing();
