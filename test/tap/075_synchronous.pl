# With a synchronous standby, what is answered as recorded is there after a failover, and so is what is
# answered as a duplicate: also of an event that the primary has and the standby has not yet, as after a
# crash or where a commit's wait for the standby was ended.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $primary = PostgreSQL::Test::Cluster->new('primary');
$primary->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 1);
$primary->append_conf('postgresql.conf', "wal_retrieve_retry_interval = 100ms\n");
$primary->start;
$primary->safe_psql('postgres', "CREATE EXTENSION meter; SELECT meter.create_meter('tokens')");
$primary->backup('one');
my $standby = PostgreSQL::Test::Cluster->new('standby');
$standby->init_from_backup($primary, 'one', has_streaming => 1);
$standby->start;
$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'\n");
$primary->reload;

my $single = "SELECT meter.record_event('tokens', 'ann', 5, idempotency => 'a', event_time => '2026-01-15Z') > 0";
my $batch = q{SELECT status FROM meter.record_events(ARRAY['tokens'], ARRAY['bob'], ARRAY[7.0], NULL, ARRAY['b'], ARRAY['2026-01-15Z'::timestamptz])};

# Starts a session that runs a statement; what it answers comes into `out`.
sub begin
{
	my ($statement) = @_;
	my $run = { out => '' };
	my $timer = IPC::Run::timer($PostgreSQL::Test::Utils::timeout_default);
	$run->{process} = IPC::Run::start([ 'psql', '-X', '-A', '-t', '-q', '-d', $primary->connstr('postgres'), '-c', $statement ], '<', \undef, '>', \$run->{out}, '2>', \$run->{err}, $timer);
	return $run;
}
sub end { my ($run) = @_; $run->{process}->finish; chomp $run->{out}; return $run->{out}; }

my $waiting = "SELECT %s FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
sub await
{
	my ($count, $name) = @_;
	return ok($primary->poll_query_until('postgres', sprintf($waiting, "count(*) = $count")), $name);
}

is($primary->safe_psql('postgres', "SELECT meter.record_event('tokens', 'ann', 1, idempotency => 'first') > 0"), 't', 'with its standby it records');
$standby->stop('immediate');
my @runs = map { begin($_) } $single, $batch;
await(2, 'without it commits wait');
is($primary->safe_psql('postgres', "SELECT count(*) FROM meter.meter_event"), 1, 'and their events are not seen');
$primary->safe_psql('postgres', sprintf $waiting, 'pg_terminate_backend(pid)');
is(join('', map { end($_) } @runs), '', 'ended, they tell nothing');
is($primary->safe_psql('postgres', "SELECT count(*) FROM meter.meter_event"), 3, 'and the events are here, and nowhere else');

# Twice: a session looks first, where it has found a key taken.
@runs = map { begin($_) } "$single; $single", "$batch; $batch";
await(2, 'who sends them again is told nothing until the standby has them');
is(join('', map { $_->{process}->pump_nb; $_->{out} } @runs), '', 'nothing at all');
is($primary->safe_psql('postgres', "SET synchronous_commit = local; $batch"), 'duplicate', 'who wants to wait for no standby does not');
$standby->start;
# Before version 15 psql tells the last result only.
like(end($runs[0]), qr/^(?:t\n)?t$/, 'then that it is recorded');
like(end($runs[1]), qr/^(?:duplicate\n)?duplicate$/, 'and is a duplicate');

$primary->stop('immediate');
$standby->promote;
$standby->safe_psql('postgres', "ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()");
is($standby->safe_psql('postgres', "SELECT count(*), sum(value) FROM meter.meter_event"), '3|13', 'after the failover each event is there');
is($standby->safe_psql('postgres', $batch), 'duplicate', 'and is a duplicate');
is($standby->safe_psql('postgres', "SELECT value, event_count FROM meter.usage('tokens', '2020-01-01', '2100-01-01')"), '13|3', 'counted once');

done_testing();
