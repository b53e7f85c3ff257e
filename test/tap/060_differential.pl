# slow: it asks thousands of questions.
# meter.usage and meter.usage_report against plain SQL over the events, asked at random: first by one
# session, then while others record, fold and rebuild, then when all is quiet again.
#
# All that is random comes from one seed, said at the start; METER_SEED=... plans the same again (how
# concurrent sessions meet is not planned). METER_QUESTIONS=... asks more, or fewer.
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
use Differential::Cells;
use Differential::Events;
use Differential::Question;
use Differential::Random;
use Differential::Time qw(literal month_start);

my $questions = $ENV{METER_QUESTIONS} || 1_000;
# The time is part of the seed: what is recent and what is to come depend on it.
my ($seed, $now) = ($ENV{METER_SEED} // '') =~ /^(\d+)\@(\d+)$/ ? ($1, $2) : ($ENV{METER_SEED} || int(Time::HiRes::time() * 1_000) % 1_000_000_007, time);
diag("METER_SEED=$seed\@$now METER_QUESTIONS=$questions");
$now *= 1_000_000;
my $random = Differential::Random->new($seed, 0);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', <<'CONF');
timezone = 'UTC'
max_prepared_transactions = 20
fsync = off
log_statement = none
statement_timeout = '180s'
meter.max_cells = 150
meter.dense_events = 2
CONF
$node->start;
$node->safe_psql('postgres', join "\n", 'CREATE EXTENSION meter;', 'CREATE TABLE stop ();',
	# The events that count.
	'CREATE VIEW live AS SELECT * FROM meter.meter_event AS e WHERE NOT EXISTS (SELECT FROM meter.event_void AS v WHERE (v.user_id, v.meter_id, v.event_timestamp, v.event_id) = (e.user_id, e.meter_id, e."timestamp", e.id));', 'SET client_min_messages = warning;',
	(map {
		my $meter = $Differential::Events::METERS{$_};
		"SELECT meter.create_meter('$_', '$meter->{aggregation}', '{" . join(',', @{ $meter->{dimensions} }) . "}', property => " . quoted($meter->{property}) . ', rounding => ' . quoted($meter->{rounding})
		  . ', rounding_precision => ' . ($meter->{precision} // 'NULL') . ');'
	} @Differential::Events::METERS),
	"SET meter.org = 'other'; SELECT meter.create_meter('tokens'); SELECT meter.record_event('tokens', 'ann', 1e20);",
	'SELECT meter.create_partitions(1, ' . quoted(literal($now - 40 * 86_400_000_000)) . ');');

# By zone, the instants at which its clocks change, as far as there are events.
my %changes;
for (split /\n/, $node->safe_psql('postgres', <<'SQL' =~ s/ZONES/join ',', @Differential::Question::ZONES/er))
WITH day AS (
    SELECT DISTINCT zone, d FROM unnest('{ZONES}'::text[]) AS zone, generate_series(timestamptz '1969-12-01', now() + interval '1 year', '1 day') AS d
    WHERE (d AT TIME ZONE zone) + interval '1 day' <> (d + interval '1 day') AT TIME ZONE zone
)
SELECT zone, extract(epoch FROM i)::bigint * 1000000 FROM day, generate_series(d + interval '15 minutes', d + interval '1 day', '15 minutes') AS i
WHERE ((i - interval '15 minutes') AT TIME ZONE zone) + interval '15 minutes' <> i AT TIME ZONE zone ORDER BY 1, 2
SQL
{
	my ($zone, $at) = split /\|/;
	push @{ $changes{$zone} }, $at;
}

sub quoted { return Differential::Events::quoted($_[0]) }

# --- what sessions do

my $asked = 0;
my $verified = 0;

# Two ways to look at the cells themselves.
sub verify
{
	my ($random, $number) = @_;
	return Differential::Cells::check($number // ++$asked, $random) if $random->chance(60);
	return "SELECT 'V', " . ++$verified . ", 0, (SELECT string_agg('verify' || v::text, '  ') FROM (SELECT * FROM meter.verify('1970-01-01', '9999-01-01') LIMIT 8) AS v);" }

# A transaction's statements, without those that take the fold lock where it is prepared: it would keep
# the lock, and a rebuild of the same session wait for it for ever.
sub without_lock
{
	my @statements = @_;
	return (grep { /PREPARE TRANSACTION/ } @statements) ? grep { !/meter\.(?:fold|rebuild|leave_out|take_in)\(/ } @statements : @statements;
}

# A rebuild of some months, around now or around what is dense; or a dimension, or all of them, is left
# out of a meter's rollups, or taken in again, which rebuilds all months.
sub rebuild
{
	my ($random) = @_;
	if ($random->chance(25))
	{
		my $meter = $random->pick(@Differential::Events::METERS);
		my @names = @{ $Differential::Events::METERS{$meter}{names} };
		my $name = @names && $random->chance(75) ? $random->pick(@names) : undef;
		return sprintf 'SELECT count(meter.%s(%s, %s)::text);', $random->pick('leave_out', 'take_in'), quoted($meter), quoted($name);
	}
	my $month = month_start($random->pick($now, $now, Differential::Time::instant('2024-10-15 00:00')), $random->pick(0, 0, 0, -1, 1));
	my $to = $random->chance(80) ? $month + 1 : month_start($month, 1 + $random->number(3));
	return sprintf 'SELECT count(meter.rebuild(%s, %s, %s));', quoted(literal($month)), quoted(literal($to)),
	  quoted($random->chance(30) ? $random->pick(@Differential::Events::METERS) : undef);
}

# A fold that begins a new generation of deltas: the sequence counts what was folded since the last.
sub fold_and_begin { return ("SELECT setval('meter.rollup_folded_seq', 100000);", 'SELECT meter.fold();') }

# A question asked later, under the snapshot there is now.
sub cursor { return 'DECLARE c CURSOR FOR ' . $_[0] }

# What holds snapshots for seconds, and asks under each again and again: folds then leave the cells
# alone most of the time, and write deltas into generations of their own. Until there is a row in stop.
sub holder
{
	my ($number, $question, $stop) = @_;
	my $random = Differential::Random->new($seed, $number);
	my $own = 0;
	my @lines;
	for (1 .. 20 + $questions / 40)
	{
		push @lines, 'BEGIN ISOLATION LEVEL REPEATABLE READ;';
		for (1 .. 1 + $random->number(20))
		{
			push @lines, $question->($number * 1_000_000 + ++$own), sprintf 'SELECT pg_sleep(%.4f);', $random->number(500) / 1_000;
			push @lines, verify($random, $number * 1_000_000 + ++$own) if $random->chance(5);
		}
		push @lines, 'COMMIT;', @$stop;
	}
	return [ 'holder', @lines ];
}

# Psql runs lines in a session of its own; its answers and errors go to files.
my $directory = PostgreSQL::Test::Utils::tempdir;
my $sessions = 0;

sub start
{
	my ($name, @lines) = @_;
	my $session = { name => $name, script => "$directory/$name-" . ++$sessions . '.sql', lines => \@lines, started => Time::HiRes::time() };
	open my $file, '>:encoding(UTF-8)', $session->{script} or die "cannot write $session->{script}: $!";
	print $file "$_\n" for @lines;
	close $file;
	local $ENV{PGCLIENTENCODING} = 'UTF8';
	$session->{run} = IPC::Run::start([ 'psql', '-XAtq', '-d', $node->connstr('postgres'), '-f', $session->{script} ],
		'<', \undef, '>', "$session->{script}.out", '2>', "$session->{script}.err");
	return $session;
}

# What a writer may be told: of a key with another payload, of the value it gets wrong on purpose, of
# what follows in that transaction, and of a key that another session records, or an event that it voids, meanwhile.
my $expected = qr/idempotency key .* (?:was|is) |NaN|current transaction is aborted|prepared transaction with identifier .* does not exist|could not serialize access|is amended|is voided already|savepoint .* does not exist/;

my ($answers, $rows, $full, $verifications) = (0, 0, 0, 0);
my @differences;

# Waits for a session to end, and reads what came of it.
sub finish
{
	my ($session) = @_;
	$session->{run}->finish;
	my $aborted = 0;
	for my $line (split /\n/, slurp_file("$session->{script}.err"))
	{
		++$aborted if $line =~ /transaction is aborted/;
		next if $line !~ /ERROR|FATAL|PANIC|cannot be folded|connection/;
		next if $line =~ $expected && $session->{name} =~ /writer|alone/;
		# A timeout that strikes while another is being handled is told as a request.
		next if $line =~ /statement timeout|due to user request/ && $session->{name} eq 'folder';
		my ($number) = $line =~ /sql:(\d+): /;
		push @differences, "session $session->{name}: $line\n" . ($number ? substr($session->{lines}[ $number - 1 ], 0, 1_500) : '');
		utf8::encode($differences[-1]);
	}
	my %answered = (Q => 0, V => 0);
	for my $line (split /\n/, slurp_file("$session->{script}.out"))
	{
		my ($kind, $number, $count, $difference) = $line =~ /^([QV])\|(\d+)\|(\d+)\|(.*)$/ or next;
		++$answered{$kind};
		$rows += $count;
		++$full if $kind eq 'Q' && $count > 1;
		next if $difference eq '';
		my ($statement) = grep { /'$kind', $number, [0(]/ } @{ $session->{lines} };
		utf8::encode($statement);
		# On several lines, so that none is too long to be shown.
		push @differences, "session $session->{name}:\n" . $statement =~ s/(?<=, )(?=(?:source|grouped|plain) AS)|(?= (?:FROM|WHERE|GROUP BY|SELECT 'Q') )/\n/gr
		  . "\n" . $difference =~ s/  (?=(?:usage|plain|verify)\()/\n/gr;
	}
	my $questions = grep { /^(?:DECLARE c CURSOR FOR )?WITH ours/ } @{ $session->{lines} };
	push @differences, "session $session->{name} answered $answered{Q} of $questions questions\n" if $answered{Q} + $aborted < $questions && $session->{name} =~ /alone|reader|afterwards/;
	$answers += $answered{Q};
	$verifications += $answered{V};
	note(sprintf '%s: %.1f s', $session->{name}, Time::HiRes::time() - $session->{started});
	return;
}

# What was not yet told of differences fails a test of this name.
sub judge
{
	my ($name) = @_;
	is(scalar @differences, 0, $name) or diag("METER_SEED=$seed\@" . $now / 1_000_000 . " METER_QUESTIONS=$questions\n" . join "\n", splice @differences, 0, 5);
	@differences = ();
}

# --- one session

my @current = grep { $_ ne 'archived' } @Differential::Events::METERS;
my $events = Differential::Events->new($random, $now, 'a', @Differential::Events::METERS);
my $question = Differential::Question->new($random, $now, \%changes, $events->{times});
my $ask = sub { $question->ask(++$asked) };

my $stop = [ 'SELECT count(*) AS stop FROM stop \gset', '\if :stop', '\q', '\endif' ];
my $holder = start(@{ holder(30, sub { $question->ask($_[0]) }, $stop) });
my @lines = ($events->crowd(200), 'SELECT meter.fold();');
push @lines, map { ($events->batch(map { $events->event } 1 .. 500), $random->pick('SELECT meter.fold();', ''), $events->burst(200), $events->burst(200)) } 1 .. 8;
push @lines, $ask->() for 1 .. $questions / 50;
while ($asked < $questions * 0.4)
{
	push @lines, without_lock($events->transaction(20, sub { $random->chance(40) && $_[0] eq 'READ COMMITTED' ? $random->pick('SELECT meter.fold();', rebuild($random)) : $ask->() }))
	  for 1 .. $random->number(4);
	push @lines, $random->chance(10) ? fold_and_begin() : 'SELECT meter.fold();' if $random->chance(50);
	push @lines, 'BEGIN;', 'SELECT meter.fold();', $ask->(), 'ROLLBACK;' if $random->chance(10);
	push @lines, rebuild($random) if $random->chance(15);
	push @lines, 'BEGIN;', rebuild($random), $ask->(), 'ROLLBACK;' if $random->chance(5);
	push @lines, verify($random) if $random->chance(5);
	# A cursor has the snapshot of when it was declared.
	push @lines, 'BEGIN;', cursor($ask->()), $events->statement(5), 'SELECT meter.fold();', 'FETCH ALL c;', $random->pick('COMMIT;', 'ROLLBACK;') if $random->chance(15);
	my $off = $random->chance(15) ? $random->pick(qw(enable_hashagg enable_indexscan enable_bitmapscan enable_seqscan enable_partition_pruning jit)) : undef;
	push @lines, "SET $off = off;" if $off;
	push @lines, $ask->() for 1 .. 1 + $random->number(30);
	push @lines, 'RESET ALL;' if $off;
}
finish(start('alone', @lines, verify($random)));
$node->safe_psql('postgres', 'INSERT INTO stop DEFAULT VALUES');
finish($holder);
$node->safe_psql('postgres', 'DELETE FROM stop');
judge('one session, and one that holds its snapshot: usage is what the events add up to');

# --- many sessions

$node->safe_psql('postgres', "SELECT meter.archive_meter('archived')");
my @shared = map { my $event = $events->event; $event->{key} = "shared-$_"; $event->{meter} eq 'archived' ? () : $event } 1 .. 300;

my (@others, @readers);
for my $writer (1 .. 3)
{
	my $random = Differential::Random->new($seed, $writer);
	my $events = Differential::Events->new($random, $now, "w$writer-", @current);
	my $question = Differential::Question->new($random, $now, \%changes, [ @{ $events->{times} }, @{ $question->{times} } ]);
	my $own = 0;
	my @lines;
	for (1 .. $questions)
	{
		push @lines, @$stop if $_ % 4 == 0;
		push @lines, $random->chance(15)
		  ? $events->batch(map { $random->pick(@shared) } 1 .. 5)
		  : $events->transaction(8, sub {
				return $question->ask($writer * 1_000_000 + ++$own) if $random->chance($_[0] eq 'READ COMMITTED' ? 25 : 70);
				return 'SELECT meter.fold();' if $_[0] eq 'READ COMMITTED' && $random->chance(25);
				return sprintf 'SELECT pg_sleep(%.4f);', $random->number(200) / 10_000;
			});
		push @lines, sprintf 'SELECT pg_sleep(%.4f);', $random->number(500) / 10_000;
	}
	push @others, [ "writer$writer", @lines ];
}
{
	my $random = Differential::Random->new($seed, 10);
	my @lines;
	for (1 .. $questions * 4)
	{
		push @lines, @$stop if $_ % 10 == 0;
		# A timeout may hit the COMMIT, too, which leaves the transaction open.
		my $kind = $random->number(100);
		push @lines, $kind < 10 ? ('BEGIN;', 'SELECT meter.fold();', 'SELECT pg_sleep(0.01);', 'ROLLBACK;')
		  : $kind < 20 ? fold_and_begin()
		  : $kind < 22 ? 'SELECT meter.fold(into_cells => true);'
		  : $kind < 27 ? ('BEGIN;', sprintf('SET LOCAL statement_timeout = %d;', 1 + $random->number(5)), 'SELECT meter.fold();', 'COMMIT;', 'ROLLBACK;') : 'SELECT meter.fold();'; # the timeout may hit the COMMIT itself
		push @lines, sprintf 'SELECT pg_sleep(%.4f);', $random->number(30) / 10_000;
	}
	push @others, [ 'folder', @lines ];
	@lines = ();
	for (1 .. $questions)
	{
		push @lines, @$stop, $random->pick(rebuild($random), 'SELECT meter.fold();');
		push @lines, verify($random) if $random->chance(20);
		push @lines, sprintf 'SELECT pg_sleep(%.4f);', $random->number(500) / 10_000;
	}
	push @others, [ 'rebuilder', @lines ];
}
# Two readers: questions one by one, and some that follow each other under one snapshot.
for my $reader (1 .. 2)
{
	my $random = Differential::Random->new($seed, 20 + $reader);
	my $question = Differential::Question->new($random, $now, \%changes, $question->{times});
	my @lines;
	for (my $own = 0; $own < $questions * 0.2;)
	{
		my $several = $random->chance(10) ? 2 + $random->number(8) : 1;
		push @lines, 'BEGIN ISOLATION LEVEL ' . $random->pick('REPEATABLE READ', 'REPEATABLE READ', 'SERIALIZABLE') . ';' if $several > 1;
		push @lines, $question->ask(++$asked) for 1 .. $several;
		push @lines, 'COMMIT;' if $several > 1;
		push @lines, verify($random) if $random->chance(1);
		$own += $several;
	}
	push @readers, [ "reader$reader", @lines ];
}
push @others, map { holder($_, sub { $question->ask($_[0]) }, $stop) } 31, 32;
my @running = map { start(@$_) } @others, @readers;
finish($_) for splice @running, @others;
$node->safe_psql('postgres', 'INSERT INTO stop DEFAULT VALUES');
finish($_) for @running;
judge('many sessions: usage is what the events of its snapshot add up to');

# --- quiet again, after a crash

$node->stop('immediate');
$node->start;
# Before the last rebuilds, which decide anew which months have days.
my $kept = $node->safe_psql('postgres', <<'SQL');
SELECT (SELECT count(*) FROM meter.rollup WHERE grain = 'd' AND hours IS NOT NULL) AS days_of_users,
    (SELECT count(*) FROM meter.rollup_total WHERE grain = 'd' AND hours IS NOT NULL) AS days,
    (SELECT count(*) FROM meter.rollup_days WHERE days_from = month) AS whole_months_of_days,
    (SELECT count(*) FROM meter.rollup WHERE grain = 'm') AS months,
    (SELECT max(generation) FROM meter.rollup_generation) AS generation,
    (SELECT -last_generation FROM meter.rollup_state ORDER BY version DESC LIMIT 1) AS runs
SQL
@lines = ('SELECT meter.fold();', verify($random));
push @lines, $ask->() for 1 .. $questions * 0.1;
push @lines, rebuild($random) for 1 .. 5;
push @lines, verify($random);
push @lines, $ask->() for 1 .. $questions * 0.1;
finish(start('afterwards', @lines));
judge('afterwards: nothing was lost and nothing counted twice');

note("$answers answers with $rows rows, $verifications verifications, "
	  . $node->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event') . ' events');
cmp_ok($answers, '>=', $questions, 'there were questions enough');
cmp_ok($full, '>', $questions / 3, 'many an answer has several rows');
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE replaced_by IS NULL) FROM meter.event_void"), '>', 20, 'events were voided');
cmp_ok($node->safe_psql('postgres', "SELECT count(replaced_by) FROM meter.event_void"), '>', 20, 'and amended');
cmp_ok($verifications, '>', 4, 'and the rollups were verified all along');
note('left out: ' . $node->safe_psql('postgres', q(SELECT string_agg(event_name || ' ' || left_out::text, ', ') FROM meter.rollup_meter JOIN meter.meter ON id = meter_id)));
like(slurp_file($node->logfile), qr/leave out dimensions with too many values/, 'a fold left out a dimension by itself');
note("at last: $kept (days of users, days, months with all days, months, generations, runs)");
ok(!(grep { $_ < 2 } split /\|/, $kept), 'there were cells of every kind, generations of deltas, and runs') or diag($kept);
$node->stop;
done_testing();
