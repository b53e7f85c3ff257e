# slow: it asks for many periods.
# Closed periods beside retention and erasing, at random: one session records, voids, amends, folds, closes,
# drops events and erases users. After each few steps statements and what is late are, by period, user and
# dimensions, what the events add up to, those that were dropped included, for every aggregation, in value,
# count and digest. Whatever was dropped: closing goes on, and so does looking for what is late.
#
# METER_SEED=... plans the same again; METER_QUESTIONS=... looks more often, or less.
use strict;
use warnings;
use utf8;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use lib $FindBin::Bin;
use Differential::Events;
use Differential::Random;
use Differential::Time qw(literal month_start instant);

my $steps = int(($ENV{METER_QUESTIONS} || 4_000) / 30);
my ($seed, $now) = ($ENV{METER_SEED} // '') =~ /^(\d+)\@(\d+)$/ ? ($1, $2) : ($ENV{METER_SEED} || int(Time::HiRes::time() * 1_000) % 1_000_000_007, time);
diag("METER_SEED=$seed\@$now");
$now *= 1_000_000;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nmax_prepared_transactions = 20\nfsync = off\nstatement_timeout = '120s'\n");
$node->start;
my @meters = grep { $_ ne 'archived' } @Differential::Events::METERS;
sub quoted { return Differential::Events::quoted($_[0]) }
$node->safe_psql('postgres', join "\n", 'CREATE EXTENSION meter;', 'SET client_min_messages = warning;',
	(map {
		my $meter = $Differential::Events::METERS{$_};
		"SELECT meter.create_meter('$_', '$meter->{aggregation}', '{" . join(',', @{ $meter->{dimensions} }) . "}', property => " . quoted($meter->{property}) . ');'
	} @meters),
	"SELECT meter.create_meter('lowest', 'min', '{model}'), meter.create_meter('highest', 'max'), meter.create_meter('mean', 'avg', '{model}');", <<'SQL');
CREATE VIEW live AS SELECT * FROM meter.meter_event AS e WHERE e."timestamp" >= COALESCE((SELECT horizon FROM meter.retention), '-infinity')
    AND NOT EXISTS (SELECT FROM meter.event_void AS v WHERE (v.user_id, v.meter_id, v.event_timestamp, v.event_id) = (e.user_id, e.meter_id, e."timestamp", e.id));
-- What was dropped and counts, and what is about to be.
CREATE TABLE dropped AS SELECT * FROM live;
CREATE TABLE going AS SELECT * FROM live;
CREATE VIEW kept AS SELECT id, meter_id, user_id, value, "timestamp", dimensions FROM live
    UNION ALL SELECT id, meter_id, user_id, value, "timestamp", dimensions FROM dropped;
CREATE VIEW wrong AS
WITH told AS (
    SELECT m.id AS meter_id, x.period_start, x.user_id, x.dimensions, sum(x.quantity) AS q, sum(x.event_count) AS n, meter.sum_digests(x.digest) AS g
    FROM (SELECT event_name, for_start AS period_start, user_id, dimensions, quantity, event_count, digest FROM meter.list_statements()
          UNION ALL SELECT event_name, period_start, user_id, dimensions, quantity, event_count, digest FROM meter.late_usage()) AS x JOIN meter.meter AS m USING (event_name)
    GROUP BY 1, 2, 3, 4
), wanted AS (
    SELECT c.meter_id, c.period_start, e.user_id, k.d AS dimensions, count(*) FILTER (WHERE k.inside) AS n,
        meter.sum_digests(meter.event_digest(e.id, e."timestamp", e.value, e.dimensions)) FILTER (WHERE k.inside) AS g,
        CASE c.aggregation WHEN 'sum' THEN sum(e.value) WHEN 'count' THEN count(*) WHEN 'min' THEN min(e.value) WHEN 'max' THEN max(e.value) WHEN 'avg' THEN avg(e.value)
            WHEN 'last' THEN (array_agg(e.value ORDER BY e."timestamp" DESC, e.id DESC))[1] WHEN 'first' THEN (array_agg(e.value ORDER BY e."timestamp", e.id))[1]
            WHEN 'unique_count' THEN count(DISTINCT NULLIF(e.dimensions -> c.property, 'null'))
            WHEN 'weighted_sum' THEN round(sum(e.value * extract(epoch FROM c.period_end - GREATEST(e."timestamp", c.period_start))), 30) / extract(epoch FROM c.period_end - c.period_start) END AS q
    FROM meter.period_close AS c JOIN kept AS e ON e.meter_id = c.meter_id AND e."timestamp" < c.period_end AND (e."timestamp" >= c.period_start OR c.aggregation = 'weighted_sum'),
        LATERAL (SELECT (SELECT COALESCE(jsonb_object_agg(d, COALESCE(e.dimensions -> d, 'null')), '{}') FROM unnest(c.dimensions) AS d) AS d, e."timestamp" >= c.period_start AS inside) AS k
    GROUP BY 1, 2, 3, 4, c.aggregation, c.period_end
)
SELECT m.event_name, period_start, user_id, COALESCE(t.dimensions, w.dimensions) AS dimensions, t.q AS told, w.q AS wanted, t.n AS told_n, w.n AS wanted_n
FROM told AS t FULL JOIN wanted AS w USING (meter_id, period_start, user_id, dimensions) JOIN meter.meter AS m ON m.id = meter_id
WHERE abs(COALESCE(t.q, 0) - COALESCE(w.q, 0)) > 1e-10 OR COALESCE(t.n, 0) <> COALESCE(w.n, 0)
    OR COALESCE(t.g, '00000000-0000-0000-0000-000000000000') <> COALESCE(w.g, '00000000-0000-0000-0000-000000000000');
SQL

my $look = "SELECT 'look', count(*), string_agg(w::text, ' ') FROM (SELECT * FROM wrong LIMIT 8) AS w;";
my $random = Differential::Random->new($seed, 0);
my $events = Differential::Events->new($random, $now, 'k', @meters, qw(lowest highest mean));
my $first = instant('2024-09-01 00:00');
my @users = @Differential::Events::USERS[ 0 .. 6 ];
my $erased = 0;
my $month = month_start($now, 0);

# Some time since the first close, the start of a month for the most part.
sub some_time
{
	my $time = $first + $random->large($now - $first);
	return $random->chance(70) ? month_start($time, 0) : $time - $time % $random->pick(1, 3_600_000_000);
}

sub drop_before
{
	my ($time) = @_;
	return ("SELECT $time AS before \\gset", q(INSERT INTO going SELECT * FROM live WHERE "timestamp" < :'before';), q(CALL meter.drop_events(:'before');),
		'INSERT INTO dropped SELECT * FROM going WHERE "timestamp" < (SELECT horizon FROM meter.retention);', 'TRUNCATE going;');
}

sub drop
{
	my $time = quoted(literal($random->chance(60) ? $first + $random->large(200 * 86_400_000_000) : some_time()));
	$time = "date_trunc('month', timestamptz $time, 'UTC')" if $random->chance(70);
	return drop_before($time);
}

# Closes all, or one; up to times that lie further on as the test goes on.
sub close_some
{
	my ($step) = @_;
	my $time = $first + int(($now - $first) * $step / $steps);
	$time = month_start($time, 0) if $random->chance(60);
	$time = month_start($now, -1) if $time > month_start($now, -1);
	return sprintf 'SELECT meter.close_period(%s, %s);', quoted(literal($time)), quoted($random->chance(40) ? $random->pick(@meters, 'lowest', 'highest', 'mean') : undef);
}

sub erase
{
	my $user = $random->pick(@users);
	my $name = 'erased-' . ++$erased;
	push @users, $name if $random->chance(50);
	return (sprintf('SELECT meter.erase_user(%s, %s, %s);', quoted($user), quoted($name), $random->pick('true', 'false')), sprintf 'UPDATE dropped SET user_id = %s WHERE user_id = %s;', quoted($name), quoted($user));
}

my @lines = (map { $events->batch(map { $events->event } 1 .. 100) } 1 .. 4);
push @lines, 'SELECT meter.close_period(' . quoted(literal($first)) . ');', $look;
for my $step (1 .. $steps)
{
	my $kind = $random->number(100);
	push @lines, $kind < 62 ? $events->transaction(6, sub { $look }) : $kind < 72 ? 'SELECT meter.fold(into_cells => ' . $random->pick('true', 'false') . ');' : $kind < 75 ? 'CALL meter.empty_default_partition();'
	  : $kind < 89 ? close_some($step) : $kind < 96 ? drop() : erase();
	push @lines, $look if $step % 4 == 0;
}
# Once all of a month is closed all of it may go; what comes after is billed as before.
push @lines, sprintf('SELECT meter.close_period(%s);', quoted(literal($month))), $look, drop_before('timestamptz ' . quoted(literal($month))), $look;
push @lines, (map { ($events->transaction(6, sub { 'SELECT;' }), 'SELECT meter.fold();', $look) } 1 .. 5);
push @lines, 'SELECT meter.close_period(now());', $look, 'SELECT meter.fold(into_cells => true);', $look, "SELECT 'look', count(*), string_agg(u::text, ' ') FROM meter.late_usage() AS u;";

my ($code, $out, $err) = $node->psql('postgres', join("\n", @lines), on_error_stop => 0);
my $expected = qr/idempotency key .* (?:was|is) |NaN|current transaction is aborted|prepared transaction with identifier .* does not exist|could not serialize access|is amended|lies in a period that is closed|savepoint .* does not exist|before the retention horizon|is closed up to|cannot be dropped from the middle|is not billed yet|needs its events|has arrived late/;
my @wrong = grep { /ERROR|FATAL|PANIC|connection/ && !/$expected/ } split /\n/, $err;
my $looked = 0;
for (split /\n/, $out)
{
	my ($count) = /^look\|(\d+)\|/ or next;
	++$looked;
	push @wrong, $_ if $count;
}
is(scalar @wrong, 0, 'statements and what is late are what the events add up to') or diag("METER_SEED=$seed\@" . $now / 1_000_000 . "\n" . join "\n", splice @wrong, 0, 10);
cmp_ok($looked, '>', $steps / 5, 'it was looked often enough');
is($node->safe_psql('postgres', "SELECT (SELECT count(*) > 0 FROM dropped), (SELECT count(*) > 20 FROM meter.statement WHERE kind = 'usage'), (SELECT count(*) > 0 FROM meter.statement WHERE kind = 'adjustment'), (SELECT count(*) > 0 FROM meter.period_close WHERE settled)"),
	't|t|t|t', 'events were dropped, and there were statements, adjustments and settled periods');
$node->stop;
done_testing();
