# The servers of a history: a primary, and where that is wanted a synchronous standby, which takes its
# place when it is gone. The clients go by files that say which server is which.
package Meter::History::Servers;

use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use Time::HiRes ();
use Meter::History::Clients;

# Arguments: `directory`, of those files; `standby`, whether there is one; `worker`, whether there is a
# background worker; `timeout`, in seconds.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { %args, number => 0 }, $class;
	my $node = $self->{primary} = PostgreSQL::Test::Cluster->new('server0');
	$node->init(extra => [ '--encoding=UTF8', '--no-locale' ], allows_streaming => 1);
	$node->append_conf('postgresql.conf', <<'CONF');
restart_after_crash = on
log_statement = none
max_connections = 50
max_prepared_transactions = 50
deadlock_timeout = 100ms
max_standby_streaming_delay = 200ms
wal_retrieve_retry_interval = 100ms
wal_receiver_status_interval = 1s
CONF
	$node->append_conf('postgresql.conf', <<'CONF') if $args{worker};
shared_preload_libraries = 'meter'
meter.worker_databases = 'postgres'
meter.fold_interval = 100ms
CONF
	$node->start;
	return $self;
}

# The server that takes what is recorded now: a PostgreSQL::Test::Cluster.
sub primary { my ($self) = @_; return $self->{primary}; }

# Tells the clients of the primary, and makes a standby for it.
sub open
{
	my ($self) = @_;
	$self->_tell('primary');
	$self->_add_standby if $self->{standby};
	return;
}

sub _tell
{
	my ($self, $server) = @_;
	Meter::History::Clients::write_file(Meter::History::Clients::server_file($self->{directory}, $server),
		$self->{$server} ? $self->{$server}->connstr('postgres') : '');
	return;
}

# Makes a standby, and from then on no commit is told before the standby has applied it.
sub _add_standby
{
	my ($self) = @_;
	my $primary = $self->{primary};
	my $name = 'server' . ++$self->{number};
	$primary->backup($name);
	$self->{standby} = PostgreSQL::Test::Cluster->new($name);
	$self->{standby}->init_from_backup($primary, $name, has_streaming => 1);
	$self->{standby}->start;
	$primary->append_conf('postgresql.conf', "synchronous_standby_names = '*'\nsynchronous_commit = remote_apply\n");
	$primary->reload;
	$self->_tell('standby');
	return;
}

# Waits until the standby has all that there is on the primary: after a crash there may be what was
# committed and never told.
sub catch_up
{
	my ($self) = @_;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	my $lsn;
	while (Time::HiRes::time() < $deadline)
	{
		my ($failed, $answer) = $self->{primary}->psql('postgres', defined $lsn
			? "SELECT bool_or(sync_state = 'sync' AND replay_lsn >= '$lsn') FROM pg_stat_replication"
			: 'SELECT pg_current_wal_insert_lsn()');
		if ($failed) { undef $lsn; }
		elsif (!defined $lsn) { $lsn = $answer; }
		elsif ($answer eq 't') { return; }
		Time::HiRes::sleep(0.05);
	}
	die "the standby does not catch up\n";
}

# The standby takes the place of the primary, all of whose processes are gone, and gets a standby itself.
sub fail_over
{
	my ($self) = @_;
	my $old = $self->{primary};
	$self->{primary} = delete $self->{standby};
	$self->_tell('standby');
	$self->{primary}->promote;
	$self->_tell('primary');
	$old->clean_node;
	$self->_add_standby;
	return;
}

1;
