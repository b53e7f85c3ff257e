# slow: it starts many sessions.
# needs pgbouncer
# Behind pgbouncer in transaction mode: clients share a few connections, each event counts once, and
# one client's settings do not become another's.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use Time::HiRes qw(usleep);

my $pgbouncer = $ENV{METER_PGBOUNCER};
plan skip_all => 'there is no pgbouncer, and none could be fetched: METER_PGBOUNCER=/path/to/pgbouncer runs this test'
  unless $pgbouncer;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('calls', 'count', '{model}');
SET meter.org = 'acme';
SELECT meter.create_meter('calls', 'count', '{model}');
SET meter.org = 'umbrella';
SELECT meter.create_meter('calls', 'count', '{model}');
CREATE ROLE acme LOGIN;
CREATE ROLE umbrella LOGIN;
SELECT meter.grant_access('acme', 'admin', 'acme'), meter.grant_access('umbrella', 'admin', 'umbrella');
CREATE SCHEMA other;
GRANT USAGE ON SCHEMA other TO PUBLIC;
SQL

# Two server connections for each database and user.
my $directory = PostgreSQL::Test::Utils::tempdir_short;
my $port      = $node->port + 1;
my $owner     = $node->safe_psql('postgres', 'SELECT current_user');
append_to_file("$directory/users.txt", join '', map { qq("$_" ""\n) } $owner, 'acme', 'umbrella');
append_to_file("$directory/pgbouncer.ini", <<INI);
[databases]
* = host=@{[ $node->host ]} port=@{[ $node->port ]}
[pgbouncer]
listen_addr =
listen_port = $port
unix_socket_dir = $directory
auth_type = trust
auth_file = $directory/users.txt
pool_mode = transaction
default_pool_size = 2
max_client_conn = 200
logfile = $directory/log
pidfile = $directory/pid
INI
system_or_bail($pgbouncer, '-d', '-q', "$directory/pgbouncer.ini");
END
{
	# The one that this test started, by its process id.
	if ($directory && -s "$directory/pid")
	{
		my $status = $?;
		kill 'INT', 0 + slurp_file("$directory/pid");
		for (1 .. 1200) { last unless -e "$directory/pid"; usleep(50_000) }
		$? = $status;
	}
}
for (1 .. 1200) { last if -S "$directory/.s.PGSQL.$port"; usleep(50_000) }

sub through
{
	my ($user, $sql) = @_;
	my ($out, $err) = ('', '');
	my $ok = IPC::Run::run([ 'psql', '-XAtq', '-v', 'ON_ERROR_STOP=1', '-h', $directory, '-p', $port, '-U', $user, '-d', 'postgres' ],
		'<', \$sql, '>', \$out, '2>', \$err);
	chomp($out, $err);
	return $ok ? $out : $err;
}
is(through($owner, 'SELECT 1'), 1, 'pgbouncer is there');

# Many clients; every event is sent twice; the search path is another one in every second
# transaction, and so are the org and the role's name.
my ($clients, $transactions) = (16, 200);
append_to_file("$directory/record.sql", <<'SQL');
\set key random(1, 1000000000)
SELECT meter.record_event('calls', 'user-' || :client_id::text, 1, '{"model": "a"}', concat(:client_id::text, '-', :key::text), '2026-01-15');
BEGIN;
SET LOCAL search_path = other, public;
SELECT meter.record_event('calls', 'user-' || :client_id::text, 1, '{"model": "a"}', concat(:client_id::text, '-', :key::text), '2026-01-15');
SELECT event_id FROM meter.record_events(ARRAY['calls', 'calls'], ARRAY['batch', 'batch'], NULL, NULL, ARRAY[concat(:client_id::text, '-', :key::text), concat(:client_id::text, '-', :key::text)],
    ARRAY['2026-01-15', '2026-01-15']::timestamptz[]);
COMMIT;
SELECT event_count FROM meter.usage('calls', '2026-01-01', '2026-02-01', 'user-' || :client_id::text);
SQL
for my $user ('acme', 'umbrella')
{
	for my $mode ('simple', 'extended')
	{
		my $result = IPC::Run::run([ 'pgbench', '-n', '-h', $directory, '-p', $port, '-U', $user, '-c', $clients, '-j', 2,
			'-t', $transactions, '-M', $mode, '-f', "$directory/record.sql", 'postgres' ], '>', \my $out, '2>', \my $err);
		ok($result, "$clients clients of $user, $mode protocol") or diag($err);
		$result = through($owner, 'SELECT meter.fold() > 0');
		is($result, 't', 'a fold through pgbouncer');
	}
	my $org = $user;
	# A random key may come twice.
	my $sent = $node->safe_psql('postgres', "SELECT count(DISTINCT idempotency) FROM meter.meter_event e
		JOIN meter.meter m ON m.id = e.meter_id WHERE m.org = '$org' AND user_id LIKE 'user-%'");
	cmp_ok($sent, '>', 2 * $clients * $transactions * 0.99, 'the clients sent what they should');
	is(through($user, "SELECT sum(event_count) FROM meter.usage('calls', '2026-01-01', '2026-02-01', group_by => '{user_id}') WHERE user_id LIKE 'user-%'"),
		$sent, 'each event counts once');
	is(through($user, "SELECT event_count FROM meter.usage('calls', '2026-01-01', '2026-02-01', 'batch')"), $sent, 'in batches too');
	is($node->safe_psql('postgres', "SET meter.org = '$org'; SELECT count(*) FROM meter.verify('2026-01-01', '2026-02-01')"), 0, 'and cells are right');
}
cmp_ok($node->safe_psql('postgres', "SELECT count(*) FROM pg_stat_activity WHERE usename = 'acme'"), '<=', 2, 'over two connections');

# SET outlives a transaction and reaches other clients; SET LOCAL and bound roles do not.
through($owner, q{SET meter.org = 'acme'});
is(through($owner, 'SHOW meter.org'), 'acme', 'what is SET at large is found by the next client');
through($owner, 'RESET meter.org');
is(through($owner, q{BEGIN; SET LOCAL meter.org = 'acme'; SELECT count(*) FROM meter.list_meters(); COMMIT}), 1, 'SET LOCAL works');
is(through($owner, q{SELECT coalesce(nullif(current_setting('meter.org'), ''), 'default')}), 'default', 'and is gone afterwards');
is(through('umbrella', q{SET meter.org = 'acme'; SELECT DISTINCT org FROM meter.list_meters()}), 'umbrella', 'a bound role stays in its org');

$node->stop;
done_testing();
