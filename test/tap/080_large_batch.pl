# slow: it records a million events at once.
# alone: it measures how soon a cancel request is heard.
# A large batch: bounded memory, a cancel request is heard at any point, and nothing is left behind.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes;
use lib "$FindBin::RealBin/../perl";
use Meter::Memory qw(peak_of_session);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "shared_buffers = 256MB\nmax_wal_size = 4GB\nautovacuum = off\n");
$node->start;
my $events = 100_000;
$node->safe_psql('postgres', <<"SQL");
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens');
SELECT meter.create_partitions();
CREATE TABLE batch (payload text, names text[], users text[], quantities numeric[], dimensions jsonb[], keys text[], times timestamptz[]);
ALTER TABLE batch ALTER payload SET STORAGE EXTERNAL;
INSERT INTO batch
SELECT string_agg(jsonb_build_object('event_name', 'tokens', 'user_id', 'user-' || i % 2000, 'value', i % 5000, 'dimensions', d, 'idempotency', k, 'metadata', m)::text, E'\\n'),
    array_agg('tokens'::text), array_agg('user-' || i % 2000), array_agg((i % 5000)::numeric), array_agg(d), array_agg(k), array_agg(now())
FROM generate_series(1, $events) AS i, jsonb_build_object('model', 'gpt-' || i % 7, 'request', i) AS d, LATERAL (SELECT (md5(i::text)::uuid)::text AS k) AS u,
    jsonb_build_object('trace', i) AS m;
SQL
my %calls = (
	text => 'meter.ingest(payload)',
	arrays => 'meter.record_events(names, users, quantities, dimensions, keys, times)',
);

sub written
{
	return $node->safe_psql('postgres', 'SELECT (SELECT count(*) FROM meter.meter_event) + (SELECT count(*) FROM meter.event_key) + (SELECT count(*) FROM meter.rollup_pending)');
}

my $peak = peak_of_session();
for my $form (sort keys %calls)
{
	my $call = "SELECT count(*) FROM batch, $calls{$form} AS r WHERE status = 'recorded'";
	# In a session of its own: a call's peak includes all before it.
	my @lines = split /\n/, $node->safe_psql('postgres', "SELECT $peak;\nBEGIN;\n$call;\nROLLBACK;\nSELECT $peak;");
	is($lines[1], $events, "$form: all are recorded");
	my $kilobytes = ($lines[2] - $lines[0]) / ($events / 1_000_000);
	note("$form: $kilobytes kB for a million events");
	cmp_ok($kilobytes, '<', 1_000_000, "$form: a million events would take less than 1 GB");
	is(written(), 0, "$form: a rollback leaves nothing");

	# How long a whole call takes, then cancelled at twenty points of that.
	my $start = Time::HiRes::time();
	$node->safe_psql('postgres', "BEGIN;\n$call;\nROLLBACK;");
	my $took = Time::HiRes::time() - $start;
	my $worst = 0;
	for my $step (1 .. 20)
	{
		my $timeout = int($took * 1000 * $step / 21) || 1;
		# The best of three: the machine may be busy, the call must not be.
		my $late;
		for my $try (1 .. 3)
		{
			my ($status, $out, $err) = $node->psql('postgres', <<"SQL", on_error_stop => 0);
SELECT extract(epoch FROM clock_timestamp()) AS start \\gset
SET statement_timeout = $timeout;
$call;
SET statement_timeout = 0;
SELECT 1000 * (extract(epoch FROM clock_timestamp()) - :start) - $timeout;
SQL
			unless ($err =~ /canceling statement due to statement timeout/)
			{
				# It was faster than before; take it back.
				$node->safe_psql('postgres', 'TRUNCATE meter.meter_event, meter.event_key, meter.rollup_pending');
				next;
			}
			my ($this) = $out =~ /(-?[\d.]+)\z/ or die "no time: $out";
			$late = $this if !defined $late || $this < $late;
			last if $late < 50;
		}
		$worst = $late if defined $late && $late > $worst;
	}
	note("$form: the slowest cancellation took $worst ms");
	cmp_ok($worst, '<', 200, "$form: a cancel request is heard within 200 ms at any point");
	is(written(), 0, "$form: a cancelled call leaves nothing");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM pg_ls_tmpdir()"), 0, 'no temporary file is left');

# Two sessions that send the same events at the same time: each event once, neither session fails.
my $script = PostgreSQL::Test::Utils::tempdir . '/same.sql';
append_to_file($script, <<'SQL');
SELECT count(*) FROM (SELECT array_agg(key) AS k FROM batch, unnest(keys) WITH ORDINALITY AS u (key, i) WHERE i <= 20000 AND ((i / 500) % 4 = :client_id % 2 OR random() < 0.5)) AS s,
    meter.record_events(array_fill('tokens'::text, ARRAY[cardinality(k)]), array_fill('same'::text, ARRAY[cardinality(k)]), NULL, NULL, k, NULL) AS r;
SQL
$node->command_ok([ 'pgbench', '-n', '-c', '4', '-j', '2', '-t', '5', '-M', 'simple', '-f', $script, $node->connstr('postgres') ], 'sessions with the same keys do not deadlock');
is($node->safe_psql('postgres', 'SELECT count(*) - count(DISTINCT idempotency) FROM meter.meter_event'), 0, 'each event is there once');
is($node->safe_psql('postgres', 'SELECT count(*) FROM meter.event_key FULL JOIN meter.meter_event ON event_id = id WHERE id IS NULL OR event_id IS NULL'), 0, 'each with its key');
is($node->safe_psql('postgres', "SELECT value = (SELECT count(*) FROM meter.meter_event) FROM meter.usage('tokens', now() - interval '1 day', now() + interval '1 day')"), 't', 'and counted once');
$node->stop;

# Rows that are written and taken back, since their key turns out to be there, are nobody's business:
# a subscriber would fail on the key that it has.
$node->append_conf('postgresql.conf', "wal_level = logical\n");
$node->start;
SKIP:
{
	skip 'test_decoding is not installed', 2
		if $node->safe_psql('postgres', "SELECT count(*) FROM pg_config, pg_ls_dir(setting) AS f WHERE name = 'PKGLIBDIR' AND f = 'test_decoding.so'") eq '0';
	$node->safe_psql('postgres', "SELECT pg_create_logical_replication_slot('s', 'test_decoding')");
	my $mixed = "SELECT status, count(*) FROM batch, meter.record_events(names[1:20000], array_fill('decoded'::text, ARRAY[20000]), NULL, NULL, %s || keys[1:%d], NULL) AS r GROUP BY status ORDER BY status";
	$node->safe_psql('postgres', sprintf($mixed, "keys[50001:50005]", 19995) =~ s/20000/5/gr =~ s/19995/0/r);
	is($node->safe_psql('postgres', sprintf($mixed, 'keys[50001:50005]', 19995)), "duplicate|5\nrecorded|19995", 'a batch with some keys that are there');
	is($node->safe_psql('postgres', "SELECT count(*) FILTER (WHERE data ~ '^table meter.event_key: INSERT'), count(*) FILTER (WHERE data ~ 'DELETE') FROM pg_logical_slot_get_changes('s', NULL, NULL)"),
		'20000|0', 'what is decoded is one row for each key');
}
$node->stop;
done_testing();
