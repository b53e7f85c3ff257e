# What befalls the servers of a history. Each kind of strike is a sub; it strikes nothing but the
# servers that it is given, and returns whether it has struck.
package Meter::History::Nemesis;

use strict;
use warnings;
use Time::HiRes ();

# Those that end every connection, or the background worker, and those that one session or statement
# feels. Failover needs a standby, worker a worker.
our @HEAVY = qw(postmaster everything backend);
our @LIGHT = qw(terminate cancel);
our @SPECIAL = qw(failover worker);

# `servers`: a Meter::History::Servers; `timeout`: seconds in which processes have to be gone.
sub new
{
	my ($class, %args) = @_;
	return bless {%args}, $class;
}

# Strikes; `backend` is the process that serves the victim, for those kinds that have one.
sub strike
{
	my ($self, $kind, $backend) = @_;
	die "there is no strike $kind" unless grep { $_ eq $kind } @HEAVY, @LIGHT, @SPECIAL;
	return $self->$kind($backend);
}

# The postmaster is killed; its children find out by themselves, and go on until they do.
sub postmaster { my ($self) = @_; $self->_crash(0); return $self->_start; }

# Every process of the server is killed.
sub everything { my ($self) = @_; $self->_crash(1); return $self->_start; }

# Every process of the primary is killed, and the standby takes its place. What a cancelled or crashed
# commit has left on the primary alone is given to the standby before: of a commit that did not wait for
# its standby nothing is promised.
sub failover
{
	my ($self) = @_;
	$self->{servers}->catch_up;
	# From here on nothing is struck but the primary, with commits under way.
	Time::HiRes::sleep(0.2);
	$self->_crash(1);
	$self->{servers}->fail_over;
	return 1;
}

# The background worker is ended, whatever it is doing; it comes again by itself.
sub worker
{
	my ($self) = @_;
	my ($worker) = $self->workers or return 0;
	return kill('TERM', $worker);
}

# The processes of the primary's background worker: one or none.
sub workers
{
	my ($self) = @_;
	my $postmaster = $self->{servers}->primary->{_pid};
	return grep { _command($_) =~ /meter worker/ } map { $_->{id} } grep { $_->{parent} == $postmaster } _processes();
}

# One backend is killed; the postmaster then ends the others, and recovers.
sub backend { my ($self, $backend) = @_; return $self->_signal(KILL => $backend); }

# One connection is ended, as by pg_terminate_backend.
sub terminate { my ($self, $backend) = @_; return $self->_signal(TERM => $backend); }

# A few statements are cancelled, as by pg_cancel_backend: many signals, since most of them find the
# backend between two statements.
sub cancel
{
	my ($self, $backend) = @_;
	my $struck = 0;
	for (1 .. 20)
	{
		$struck += $self->_signal(INT => $backend);
		Time::HiRes::sleep(0.002);
	}
	return $struck;
}

# Signals a backend, if it still is one of this cluster.
sub _signal
{
	my ($self, $signal, $backend) = @_;
	my $process = _process($backend) or return 0;
	return 0 unless $process->{parent} == $self->{servers}->primary->{_pid};
	return kill($signal, $backend);
}

# Kills the postmaster, and its children with it or not; returns when all are gone.
sub _crash
{
	my ($self, $children_too) = @_;
	my $node = $self->{servers}->primary;
	my $postmaster = $node->{_pid};
	# Stopped, it makes no further children while they are listed.
	kill('STOP', $postmaster);
	my @children = grep { $_->{parent} == $postmaster } _processes();
	$node->kill9;
	kill('KILL', map { $_->{id} } @children) if $children_too;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	while (grep { _lives($_) } { id => $postmaster }, @children)
	{
		die "processes of the killed server do not end\n" if Time::HiRes::time() > $deadline;
		Time::HiRes::sleep(0.01);
	}
	# Dead, but not yet waited for by whoever inherited it, it would keep its number and so its locks.
	unlink($node->data_dir . '/postmaster.pid', $node->host . '/.s.PGSQL.' . $node->port . '.lock') if _process($postmaster);
	return;
}

sub _start { my ($self) = @_; $self->{servers}->primary->start; return 1; }

# Whether that very process is still there, and not another with its number; a dead one that nobody
# has waited for is not.
sub _lives
{
	my ($process) = @_;
	my $now = _process($process->{id}) or return 0;
	return $now->{state} ne 'Z' && (!defined $process->{started} || $now->{started} eq $process->{started});
}

sub _processes
{
	opendir(my $directory, '/proc') or die "/proc: $!";
	return grep { defined } map { _process($_) } grep { /^\d+$/ } readdir $directory;
}

# A process as id, state, parent and time of start; nothing where there is none.
sub _process
{
	my ($id) = @_;
	return unless defined $id && $id =~ /^[0-9]+$/;
	open(my $in, '<', "/proc/$id/stat") or return;
	my $line = <$in>;
	return unless defined $line && $line =~ s/^.*\) //s;
	my @fields = split / /, $line;
	return { id => $id, state => $fields[0], parent => $fields[1], started => $fields[19] };
}

# What a process is, as it says itself.
sub _command
{
	my ($id) = @_;
	open(my $in, '<', "/proc/$id/cmdline") or return '';
	local $/;
	return <$in> // '';
}

1;
