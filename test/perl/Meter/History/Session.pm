# A connection to the server that lives as long as it can: a psql that is fed one request after the
# other. What became of a request is one of three: it was answered, it failed with an SQLSTATE, or
# the connection was lost before its answer came.
package Meter::History::Session;

use strict;
use warnings;
use POSIX ();
use Time::HiRes ();

# Connects; undef where the server does not take connections now. Arguments: `connstr`; `timeout`,
# the seconds after which an answer is given up, by dying; `errors`, a file that gets what psql says
# on its standard error.
sub connect
{
	my ($class, %args) = @_;
	my $self = bless { timeout => $args{timeout}, number => 0, unread => '' }, $class;
	pipe(my $from_us, my $to_psql) or die "pipe: $!";
	pipe(my $from_psql, my $to_us) or die "pipe: $!";
	$self->{process} = fork() // die "fork: $!";
	if ($self->{process} == 0)
	{
		POSIX::dup2(fileno $from_us, 0);
		POSIX::dup2(fileno $to_us, 1);
		open(my $errors, '>>', $args{errors}) or POSIX::_exit(126);
		POSIX::dup2(fileno $errors, 2);
		{ no warnings 'exec'; exec('psql', '-X', '-q', '-A', '-t', '-F', "\t", '-P', 'null=~', '-d', $args{connstr}); }
		POSIX::_exit(127);
	}
	close $_ for $from_us, $to_us;
	@$self{qw(in out)} = ($from_psql, $to_psql);
	my $answer = $self->run('SELECT pg_catalog.pg_backend_pid()');
	if (!$answer->{rows})
	{
		$self->disconnect;
		return;
	}
	$self->{backend} = $answer->{rows}[0][0][0];
	return $self;
}

# The process of the server.
sub backend { return $_[0]{backend} }

# Runs statements one after the other, each sent when the one before it was answered. Returns a hash
# with one of `rows` (an array for each statement, of rows, which are arrays), `error` (an SQLSTATE;
# what follows that statement is not run) and `lost`.
sub run
{
	my ($self, @statements) = @_;
	my @rows;
	for my $statement (@statements)
	{
		my $marker = "answer-$$-" . ++$self->{number};
		return { lost => 1 } unless $self->_send("$statement;\n\\echo $marker :ERROR :SQLSTATE\n");
		my $text = $self->_receive(qr/^\Q$marker\E (true|false) (\w*)\n/m);
		return { lost => 1 } unless defined $text;
		# An error that the server has not sent: psql may have noticed the end of its connection and live on.
		return { lost => 1 } if $self->{error} && $self->{sqlstate} eq '';
		return { error => $self->{sqlstate} } if $self->{error};
		push @rows, [ map { [ split /\t/, $_, -1 ] } split /\n/, $text ];
	}
	return { rows => \@rows };
}

# Writes all of a text; false where psql has ended.
sub _send
{
	my ($self, $text) = @_;
	local $SIG{PIPE} = 'IGNORE';
	while (length $text)
	{
		my $written = syswrite($self->{out}, $text);
		return 0 unless defined $written;
		substr($text, 0, $written, '');
	}
	return 1;
}

# What comes before the marker; undef where psql ended first.
sub _receive
{
	my ($self, $marker) = @_;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	until ($self->{unread} =~ $marker)
	{
		my $wait = '';
		vec($wait, fileno $self->{in}, 1) = 1;
		my $left = $deadline - Time::HiRes::time();
		die "no answer within $self->{timeout} s\n" if $left <= 0;
		next if select($wait, undef, undef, $left) <= 0;
		return undef unless sysread($self->{in}, $self->{unread}, 1 << 16, length $self->{unread});
	}
	# Once more: what a loop's condition has matched is forgotten after the loop.
	my ($text, $error, $sqlstate, $rest) = $self->{unread} =~ /^(.*?)$marker(.*)$/s;
	@$self{qw(error sqlstate unread)} = ($error eq 'true', $sqlstate, $rest);
	return $text;
}

# Ends psql, and waits for it.
sub disconnect
{
	my ($self) = @_;
	close $_ for grep { defined } delete @$self{qw(in out)};
	waitpid(delete $self->{process}, 0) if $self->{process};
	return;
}

1;
