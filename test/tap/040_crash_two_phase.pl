# slow: it kills servers.
# What is committed survives a crash and is a duplicate ever after, what is not leaves no trace; and
# a prepared transaction holds its keys and its meter like any other, over a crash too.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "max_prepared_transactions = 5\nfsync = on\n");
$node->start;
$node->safe_psql('postgres', "CREATE EXTENSION meter; SELECT meter.create_meter('tokens'); SELECT meter.create_meter('calls')");

my $record = sub { "SELECT meter.record_event('tokens', 'ann', 5, idempotency => '$_[0]')" };
my $state = "SELECT string_agg(idempotency, ' ' ORDER BY idempotency COLLATE \"C\"), count(*), (SELECT count(*) FROM meter.event_key),
    (SELECT count(*) FROM meter.event_key k JOIN meter.meter_event e ON e.id = k.event_id AND e.\"timestamp\" = k.event_timestamp) FROM meter.meter_event";

# The error of a statement that waits no longer than a moment.
sub refused
{
	my ($statement) = @_;
	my ($status, $out, $err) = $node->psql('postgres', "SET lock_timeout = '300ms'; $statement");
	return $status == 0 ? "answered $out" : $err;
}

# --- a crash

my $kept = $node->safe_psql('postgres', $record->('kept'));
my $batch = $node->safe_psql('postgres', <<'SQL');
SELECT count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'batch',
    'idempotency', 'b' || i)) FROM generate_series(1, 500) i)) WHERE status = 'recorded'
SQL
is($batch, 500, 'a batch is recorded');
my ($in, $out, $err) = ('', '', '');
my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
my $session = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err, $timer);
$in .= "BEGIN; " . $record->('lost') . ";\n\\echo there\n";
$session->pump until $out =~ /there/;
$node->stop('immediate');
$session->finish;
$node->start;
is($node->safe_psql('postgres', $state), join(' ', (sort map { "b$_" } 1 .. 500), 'kept') . '|501|501|501',
	'after a crash there is what was committed');
is($node->safe_psql('postgres', $record->('kept')), $kept, 'a retry answers with its event');
is($node->safe_psql('postgres', <<'SQL'), 'duplicate|500', 'a batch too');
SELECT status, count(*) FROM meter.record_events((SELECT jsonb_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'batch',
    'idempotency', 'b' || i)) FROM generate_series(1, 500) i)) GROUP BY status
SQL
cmp_ok($node->safe_psql('postgres', $record->('lost')), '>', 501, 'what was lost is recorded when it comes again, with a new id');
$node->safe_psql('postgres', "DELETE FROM meter.meter_event WHERE user_id = 'batch' OR idempotency = 'lost'; TRUNCATE meter.event_key; TRUNCATE meter.meter_event");

# The ids of a batch are never given again: neither those for which the sequence was logged, nor those
# logged ahead, nor those after a checkpoint, for which it has to be logged anew.
sub record_batch
{
	my ($amount) = @_;
	return $node->safe_psql('postgres', "SELECT max(event_id) FROM meter.record_events(array_fill('tokens'::text, '{$amount}'), array_fill('batch'::text, '{$amount}'), NULL, NULL, NULL, NULL)");
}
for my $case ([ 'logged', 100 ], [ 'logged ahead', 100, 20 ], [ 'after a checkpoint', 100, 'CHECKPOINT', 20 ])
{
	my ($name, @steps) = @$case;
	my $last;
	for my $step (@steps)
	{
		if ($step eq 'CHECKPOINT') { $node->safe_psql('postgres', $step) }
		else { $last = record_batch($step) }
	}
	$node->stop('immediate');
	$node->start;
	cmp_ok($node->safe_psql('postgres', "SELECT nextval('meter.meter_event_id_seq')"), '>', $last, "$name: no id is given twice");
}
$node->safe_psql('postgres', "DELETE FROM meter.meter_event WHERE user_id = 'batch'; TRUNCATE meter.event_key; TRUNCATE meter.meter_event");

# --- prepared transactions

$node->safe_psql('postgres', 'BEGIN; ' . $record->('p1') . "; SELECT meter.record_event('tokens', 'ann', 1); PREPARE TRANSACTION 'one'");
$node->safe_psql('postgres', 'BEGIN; ' . $record->('p2') . "; PREPARE TRANSACTION 'two'");
# As it is, and after a crash.
for my $when ('prepared', 'prepared and crashed')
{
	for my $key (qw(p1 p2))
	{
		like(refused($record->($key)), qr/canceling statement due to lock timeout/, "$when: $key is held");
		like(refused(qq(SELECT status FROM meter.record_events('[{"event_name": "tokens", "user_id": "ann", "value": 5, "idempotency": "$key"}]'))),
			qr/canceling statement due to lock timeout/, "$when: $key is held against a batch");
	}
	like(refused("SELECT meter.archive_meter('tokens')"), qr/canceling statement due to lock timeout/, "$when: the meter cannot be archived");
	like(refused("SELECT meter.drop_meter('tokens')"), qr/canceling statement due to lock timeout/, "$when: nor dropped");
	like(refused("SELECT meter.record_event('tokens', 'bob')"), qr/^answered \d+$/, "$when: others record");
	is($node->safe_psql('postgres', "SELECT count(*) FROM meter.meter_event WHERE user_id = 'ann'"), 0, "$when: nothing of it is seen");
	if ($when eq 'prepared')
	{
		$node->stop('immediate');
		$node->start;
	}
}
$node->safe_psql('postgres', "COMMIT PREPARED 'one'; ROLLBACK PREPARED 'two'; DELETE FROM meter.meter_event WHERE user_id = 'bob'");
my $first = $node->safe_psql('postgres', "SELECT id FROM meter.meter_event WHERE idempotency = 'p1'");
is($node->safe_psql('postgres', $record->('p1')), $first, 'committed: a retry answers with its event');
cmp_ok($node->safe_psql('postgres', $record->('p2')), '>', $first, 'rolled back: the key is free');
is($node->safe_psql('postgres', $state), 'p1 p2|3|2|2', 'and each is there once');

# A definition that a session prepares is not what it goes by afterwards, until it is committed.
is($node->safe_psql('postgres', <<'SQL'), "f\nt", 'a meter archived in a prepared transaction is archived at its commit');
SELECT archived_at IS NOT NULL FROM meter.list_meters() WHERE event_name = 'calls';
BEGIN;
DO $$ BEGIN PERFORM meter.archive_meter('calls'); END $$;
PREPARE TRANSACTION 'archive';
COMMIT PREPARED 'archive';
SELECT archived_at IS NOT NULL FROM meter.list_meters(true) WHERE event_name = 'calls';
SQL
my ($status, $answer, $error) = $node->psql('postgres', <<'SQL');
BEGIN;
SELECT event_name FROM meter.create_meter('prepared');
SELECT meter.record_event('prepared', 'ann') > 0;
PREPARE TRANSACTION 'create';
SELECT meter.record_event('prepared', 'ann') > 0;
SQL
is($answer, "prepared\nt", 'a meter of a prepared transaction is nobody\'s');
like($error, qr/meter "prepared" does not exist/, 'it does not exist');
is($node->safe_psql('postgres', "SELECT count(*) FROM meter.list_meters() WHERE event_name = 'prepared'"), 0, 'nor is it listed');
$node->safe_psql('postgres', "COMMIT PREPARED 'create'");
is($node->safe_psql('postgres', "SELECT count(*) FROM meter.list_events('prepared')"), 1, 'once it is committed it is there with its event');

done_testing();
