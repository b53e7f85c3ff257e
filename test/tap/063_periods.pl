# slow: it records under load.
# Closed periods, and usage explained, at random: while sessions record, void and amend, some close
# periods; at each moment what was billed and what is late add up to the usage of what is closed, by
# user, in value, count and digest. And the rows of meter.explain_usage add up to what meter.usage says.
#
# METER_SEED=... plans the same again; METER_QUESTIONS=... looks more often, or less.
use strict;
use warnings;
use utf8;
use FindBin;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes ();
use lib $FindBin::Bin;
use Differential::Events;
use Differential::Random;
use Differential::Time qw(literal month_start instant);

my $looks = ($ENV{METER_QUESTIONS} || 6_000) / 60;
my ($seed, $now) = ($ENV{METER_SEED} // '') =~ /^(\d+)\@(\d+)$/ ? ($1, $2) : ($ENV{METER_SEED} || int(Time::HiRes::time() * 1_000) % 1_000_000_007, time);
diag("METER_SEED=$seed\@$now");
$now *= 1_000_000;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "timezone = 'UTC'\nmax_prepared_transactions = 20\nfsync = off\nstatement_timeout = '120s'\n");
$node->start;
# Those whose events add up to what is billed, or that have a last one; the others are in the test periods_aggregations.
my @meters = grep { $_ ne 'archived' && $Differential::Events::METERS{$_}{aggregation} =~ /^(?:sum|count|last)$/ } @Differential::Events::METERS;
$node->safe_psql('postgres', join "\n", 'CREATE EXTENSION meter;', 'SET client_min_messages = warning;',
	'CREATE VIEW live AS SELECT * FROM meter.meter_event AS e WHERE NOT EXISTS (SELECT FROM meter.event_void AS v WHERE (v.user_id, v.meter_id, v.event_timestamp, v.event_id) = (e.user_id, e.meter_id, e."timestamp", e.id));',
	(map { my $meter = $Differential::Events::METERS{$_}; "SELECT meter.create_meter('$_', '$meter->{aggregation}', '{" . join(',', @{ $meter->{dimensions} }) . "}');" } @meters),
	<<'SQL');
-- By meter and user, what does not balance: one statement, one snapshot.
CREATE VIEW unbalanced AS
    SELECT m.event_name, x.user_id, sum(x.q) AS q, sum(x.n) AS n
    FROM (SELECT meter_id, max(period_end) AS closed FROM meter.period_close GROUP BY 1) c JOIN meter.meter m ON m.id = c.meter_id,
        LATERAL (SELECT user_id, quantity AS q, event_count AS n, digest FROM meter.list_statements(m.event_name)
                 UNION ALL SELECT user_id, quantity, event_count, digest FROM meter.late_usage(m.event_name)
                 UNION ALL SELECT user_id, -sum(value), -count(*), meter.negate_digest(meter.sum_digests(meter.event_digest(id, "timestamp", value, dimensions)))
                 FROM live WHERE meter_id = m.id AND "timestamp" < c.closed GROUP BY user_id) x
    -- A last value is billed by period, and count has another quantity.
    GROUP BY 1, 2, m.aggregation HAVING (m.aggregation = 'sum' AND sum(x.q) <> 0) OR sum(x.n) <> 0 OR meter.sum_digests(x.digest) <> '00000000-0000-0000-0000-000000000000';
CREATE TABLE stop ();
SQL

sub quoted { return Differential::Events::quoted($_[0]) }
my $directory = PostgreSQL::Test::Utils::tempdir;
my $sessions = 0;

sub start
{
	my ($name, @lines) = @_;
	my $script = "$directory/$name-" . ++$sessions . '.sql';
	open my $file, '>:encoding(UTF-8)', $script or die "cannot write $script: $!";
	print $file "$_\n" for @lines;
	close $file;
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	return { name => $name, script => $script, run => IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $script ], '<', \undef, '>', "$script.out", '2>', "$script.err") };
}

my $expected = qr/idempotency key .* (?:was|is) |NaN|current transaction is aborted|prepared transaction with identifier .* does not exist|could not serialize access|is amended|lies in a period that is closed|savepoint .* does not exist/;
my ($looked, @wrong) = (0);

sub finish
{
	my ($session) = @_;
	$session->{run}->finish;
	for (split /\n/, slurp_file("$session->{script}.err"))
	{
		push @wrong, "$session->{name}: $_" if /ERROR|FATAL|PANIC|connection/ && !(/$expected/ && $session->{name} =~ /writer/) && !(/is closed up to/ && $session->{name} =~ /closer/);
	}
	for (split /\n/, slurp_file("$session->{script}.out"))
	{
		my ($what, $count, $rows) = /^(balance|explain)\|(\d+)\|(.*)$/ or next;
		++$looked;
		push @wrong, "$session->{name}: $_" if $count;
	}
	return;
}

my $stop = [ 'SELECT count(*) AS stop FROM stop \gset', '\if :stop', '\q', '\endif' ];
my $balance = "SELECT 'balance', count(*), string_agg(u::text, ' ') FROM (SELECT * FROM unbalanced LIMIT 8) AS u;";

# Usage of some period, and what explains it.
sub explained
{
	my ($random) = @_;
	my $meter = $random->pick(@meters);
	my ($from, $to) = sort { $a <=> $b } map { $random->pick(instant('2024-10-01 00:00'), month_start($now, 0), $now - 40 * 86_400_000_000) + $random->large(40 * 86_400_000_000) * $random->pick(0, 1, 1) } 1, 2;
	my $user = $random->chance(50) ? $random->pick(@Differential::Events::USERS[ 0 .. 6 ]) : undef;
	my $how = $random->pick(qw(sum sum count avg min max));
	my $add = { min => 'min(e.value)', max => 'max(e.value)' }->{$how} // 'COALESCE(sum(e.value), 0)';
	my $whole = join ', ', quoted($meter), quoted(literal($from)), quoted(literal($to)), quoted($user);
	return "SELECT 'explain', count(*), string_agg(x::text, ' ') FROM (SELECT u.value, u.event_count, e.* FROM meter.usage($whole, aggregation => " . quoted($how eq 'avg' ? 'sum' : $how) . ") AS u,"
	  . " (SELECT trim_scale($add) AS v, COALESCE(sum(e.event_count), 0) AS n FROM meter.explain_usage($whole, aggregation => " . quoted($how) . ") AS e) AS e"
	  . ' WHERE (u.value, u.event_count) IS DISTINCT FROM (e.v, e.n)) AS x;';
}

my @running;
my $base = Differential::Events->new(Differential::Random->new($seed, 0), $now, 'a', @meters);
finish(start('writer0', map { $base->batch(map { $base->event } 1 .. 300) } 1 .. 4));
for my $writer (1 .. 3)
{
	my $random = Differential::Random->new($seed, $writer);
	my $events = Differential::Events->new($random, $now, "w$writer-", @meters);
	push @running, start("writer$writer", map { ((map { $_ % 5 ? () : @$stop } $_), $events->transaction(6, sub { sprintf 'SELECT pg_sleep(%.3f);', $random->number(50) / 1_000 }), $random->chance(30) ? 'SELECT meter.fold();' : ()) } 1 .. 3_000);
}
{
	# Closes of all meters and of one, of months, days and odd instants, one after another; some are undone.
	my $random = Differential::Random->new($seed, 10);
	my $at = instant('1999-01-01 00:00');
	my @lines;
	for (1 .. 400)
	{
		$at += $random->pick(30, 90, 200, 400) * 86_400_000_000 if $at < instant('2024-09-01 00:00');
		$at += $random->pick(1, 7, 20) * 86_400_000_000 + $random->pick(0, 0, 1, 3_600_000_000, 1_234_567) if $at >= instant('2024-09-01 00:00');
		$at = month_start($at, 1) if $random->chance(30);
		last if $at > $now;
		my $close = sprintf 'SELECT meter.close_period(%s, %s);', quoted(literal($at)), quoted($random->chance(40) ? $random->pick(@meters) : undef);
		push @lines, @$stop, $random->chance(15) ? ('BEGIN;', $close, 'SELECT pg_sleep(0.05);', 'ROLLBACK;') : $close, $balance, sprintf 'SELECT pg_sleep(%.3f);', $random->number(300) / 1_000;
	}
	push @running, start('closer', @lines);
}
my @readers;
for my $reader (1, 2)
{
	my $random = Differential::Random->new($seed, 20 + $reader);
	push @readers, start("reader$reader", map { ($balance, map { explained($random) } 1 .. 5) } 1 .. $looks / 4);
}
finish($_) for @readers;
$node->safe_psql('postgres', 'INSERT INTO stop DEFAULT VALUES');
finish($_) for @running;
is(scalar @wrong, 0, 'while all is busy') or diag("METER_SEED=$seed\@" . $now / 1_000_000 . "\n" . join "\n", splice @wrong, 0, 10);

my $random = Differential::Random->new($seed, 30);
finish(start('afterwards', "SELECT meter.close_period(now());",
	# Whatever happened, something is taken back from what was billed.
	"SELECT meter.void_event('calls', e.user_id, e.id, e.\"timestamp\", 'at last') FROM live AS e JOIN meter.meter AS m ON m.id = e.meter_id WHERE m.event_name = 'calls' AND e.\"timestamp\" < now() - interval '1 hour' ORDER BY e.id LIMIT 1;",
	$balance, "SELECT meter.close_period(now());", $balance, 'SELECT meter.fold(into_cells => true);', $balance, (map { explained($random) } 1 .. 60),
	"SELECT 'balance', count(*), string_agg(u::text, ' ') FROM meter.late_usage() AS u;", "SELECT 'balance', count(*), string_agg(u::text, ' ') FROM meter.verify('1970-01-01', '9999-01-01') AS u;"));
is(scalar @wrong, 0, 'afterwards, and nothing is late') or diag("METER_SEED=$seed\@" . $now / 1_000_000 . "\n" . join "\n", splice @wrong, 0, 10);
cmp_ok($looked, '>', 60, 'it was looked often enough');
my $kinds = $node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE kind = 'usage') > 100, count(*) FILTER (WHERE kind = 'adjustment') > 0, count(*) FILTER (WHERE event_count < 0) > 0 FROM meter.statement");
is($kinds, 't|t|t', 'there were statements, adjustments, and some of them took back');
is($node->safe_psql('postgres', 'SELECT count(*) FROM (SELECT period_start, lag(period_end) OVER (PARTITION BY meter_id ORDER BY period_start) AS before FROM meter.period_close) AS c WHERE period_start <> before'), '0', 'no gap between periods, and no overlap');
$node->stop;
done_testing();
