# slow: it waits for restarts.
# The worker leaves a database that someone wants to himself, and comes back.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "shared_preload_libraries = 'meter'\nmeter.worker_databases = 'app'\nmeter.fold_interval = '1h'\nfsync = off\n");
$node->start;
my $connected = "SELECT count(*) = 1 FROM pg_stat_activity WHERE backend_type = 'meter worker' AND datname = 'app'";

sub sql { return $node->safe_psql('postgres', $_[0]) }

sql('CREATE DATABASE app');
$node->safe_psql('app', q{CREATE EXTENSION meter; SELECT meter.create_meter('tokens'); SELECT meter.record_event('tokens', 'ann', 2)});
ok($node->poll_query_until('postgres', $connected), 'the worker is there');
my $started = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'meter worker'");

$node->command_ok([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'CREATE DATABASE copy TEMPLATE app' ], 'the database can be copied');
is($node->safe_psql('copy', "SELECT value FROM meter.usage('tokens', '2000-01-01', '2100-01-01')"), 2, 'with what is in it');
ok($node->poll_query_until('postgres', $connected), 'the worker comes back');
isnt(sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'meter worker'"), $started, 'as another process');

$node->command_ok([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'ALTER DATABASE app RENAME TO old' ], 'it can be renamed');
sql('ALTER DATABASE old RENAME TO app');
ok($node->poll_query_until('postgres', $connected), 'the worker comes back to the name');

# Sessions that come and go, and changes of settings, do not chase it away.
my $pid = sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'meter worker'");
$node->safe_psql('app', "ALTER DATABASE app SET work_mem = '8MB'; COMMENT ON DATABASE app IS 'ours'; GRANT CONNECT ON DATABASE app TO PUBLIC") for 1 .. 30;
sleep 3;
is(sql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'meter worker'"), $pid, 'it stays for commands that let others in');

$node->command_ok([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c', 'DROP DATABASE app' ], 'it can be dropped without FORCE');
like(slurp_file($node->logfile), qr/meter worker in database "app" makes way for a command/, 'the log says so');
$node->stop;
done_testing();
