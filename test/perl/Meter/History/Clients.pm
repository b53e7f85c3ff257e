# The clients of a history, each a process with a connection of its own. They log what they ask for and
# what they are told, and judge nothing. Here is what they have in common; their roles are in
# Meter::History::Recorder, ::Reader and ::Keeper.
package Meter::History::Clients;

use strict;
use warnings;
use POSIX ();
use Time::HiRes ();
use Meter::History::Log;
use Meter::History::Plan;
use Meter::History::Session;

# A client. Arguments: `name`, unique; `directory`, for files; `timeout`, in seconds; `seed`; `base`,
# microseconds since 1970; `stop`, a file: the client ends when it is there; `server`, which of the files
# that name a server it goes by: primary or standby.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { server => 'primary', %args, number => 0, told => 0 }, $class;
	$self->{log} = Meter::History::Log->new(log_file($args{directory}));
	$self->{plan} = Meter::History::Plan->new(seed => $args{seed}, stream => $args{name}, base => $args{base});
	# Not drawn from the plan: how often it is asked for depends on the server.
	$self->{pause} = Meter::History::Plan->new(seed => $args{seed}, stream => "pauses of $args{name}", base => $args{base});
	return $self;
}

# Starts a client in a process of its own and returns its process id. Its `role` is the name of a sub of
# its class.
sub start
{
	my ($class, %args) = @_;
	my $parent = $$;
	my $process = fork() // die "fork: $!";
	return $process if $process;
	my $ok = eval {
		my $self = $class->new(%args, parent => $parent);
		my $role = $self->can($args{role}) or die "there is no role $args{role}";
		$self->$role();
		$self->{session}->disconnect if $self->{session};
		1;
	};
	print STDERR "# $args{name}: $@" unless $ok;
	# What the test is to do at its end must not be done by its children.
	POSIX::_exit($ok ? 0 : 1);
}

# The file of the history.
sub log_file { my ($directory) = @_; return "$directory/history"; }

# The file in which a client writes the process that serves it, for whoever wants to strike it.
sub backend_file { my ($directory, $name) = @_; return "$directory/$name.backend" =~ s/ /_/gr; }

# The file that has the connection string of the primary, or of the standby.
sub server_file { my ($directory, $server) = @_; return "$directory/server.$server"; }

# The file that has the time before which events are being dropped, or were.
sub horizon_file { my ($directory) = @_; return "$directory/horizon"; }

# Writes a file that others read at any time.
sub write_file
{
	my ($file, $text) = @_;
	open(my $out, '>', "$file.new") or die "$file: $!";
	print {$out} $text;
	close $out or die "$file: $!";
	rename("$file.new", $file) or die "$file: $!";
	return;
}

sub _connstr
{
	my ($self) = @_;
	open(my $in, '<', server_file($self->{directory}, $self->{server})) or return '';
	return scalar <$in> // '';
}

# While the file is there the checker is behind, and clients wait for it.
sub behind_file { my ($directory) = @_; return "$directory/behind"; }

# Whether the client is to end: it was told so, or the test is gone. Waits for the checker.
sub stopped
{
	my ($self) = @_;
	my $ended;
	until ($ended = -e $self->{stop} || getppid() != $self->{parent})
	{
		last unless -e behind_file($self->{directory});
		Time::HiRes::sleep(0.02);
	}
	return $ended;
}
sub next_name { my ($self) = @_; return "$self->{name}." . ++$self->{number}; }

# Runs statements on the connection; makes one first where there is none, however long the server is
# away, within the timeout. `before` is called once there is one.
sub run
{
	my ($self, $before, @statements) = @_;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	# A connection to a server that is not the one any more is given up.
	$self->lose if $self->{session} && $self->{connstr} ne $self->_connstr;
	until ($self->{session})
	{
		$self->{connstr} = $self->_connstr;
		$self->{session} = Meter::History::Session->connect(
			connstr => "$self->{connstr} application_name='$self->{name}'",
			timeout => $self->{timeout},
			errors => "$self->{directory}/errors") if $self->{connstr} ne '';
		last if $self->{session};
		die "no connection within $self->{timeout} s\n" if Time::HiRes::time() > $deadline;
		Time::HiRes::sleep(0.03);
	}
	if ($self->{told} != $self->{session}->backend)
	{
		$self->{told} = $self->{session}->backend;
		write_file(backend_file($self->{directory}, $self->{name}), $self->{told});
	}
	$before->() if $before;
	my $answer = $self->{session}->run(@statements);
	$self->lose if $answer->{lost};
	return $answer;
}

# Runs statements on the connection that there is, in the transaction that it has begun.
sub run_on
{
	my ($self, @statements) = @_;
	my $answer = $self->{session}->run(@statements);
	$self->lose if $answer->{lost};
	return $answer;
}

# Rolls back what the connection has begun, even if that is cancelled.
sub roll_back
{
	my ($self) = @_;
	while ($self->{session})
	{
		last unless $self->run_on('ROLLBACK')->{error};
	}
	return;
}

# Forgets a connection that was lost.
sub lose
{
	my ($self) = @_;
	$self->{session}->disconnect;
	undef $self->{session};
	return;
}

1;
