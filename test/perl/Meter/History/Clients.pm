# The clients of a history: recorders, folders and readers, each a process with a connection of its
# own. They log what they ask for and what they are told, and judge nothing.
package Meter::History::Clients;

use strict;
use warnings;
use POSIX ();
use Time::HiRes ();
use Meter::History::Log;
use Meter::History::Plan;
use Meter::History::Session;

# A client. Arguments: `name`, unique; `directory`, for files; `connstr`; `timeout`, in seconds; `seed`;
# `base`, microseconds since 1970; `stop`, a file: the client ends when it is there.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { %args, number => 0, told => 0 }, $class;
	$self->{log} = Meter::History::Log->new(log_file($args{directory}));
	$self->{plan} = Meter::History::Plan->new(seed => $args{seed}, stream => $args{name}, base => $args{base});
	# Not drawn from the plan: how often it is asked for depends on the server.
	$self->{pause} = Meter::History::Plan->new(seed => $args{seed}, stream => "pauses of $args{name}", base => $args{base});
	return $self;
}

# Starts a client in a process of its own and returns its process id. Its `role` is the name of one of
# the subs below: recorder, folder or reader.
sub start
{
	my (%args) = @_;
	my $parent = $$;
	my $process = fork() // die "fork: $!";
	return $process if $process;
	my $ok = eval {
		my $self = __PACKAGE__->new(%args, parent => $parent);
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

# Whether the client is to end: it was told so, or the test is gone.
sub _stopped { my ($self) = @_; return -e $self->{stop} || getppid() != $self->{parent}; }
sub _operation { my ($self) = @_; return "$self->{name}." . ++$self->{number}; }

# Runs statements on the connection; makes one first where there is none, however long the server is
# away, within the timeout. `before` is called once there is one.
sub _run
{
	my ($self, $before, @statements) = @_;
	my $deadline = Time::HiRes::time() + $self->{timeout};
	until ($self->{session})
	{
		$self->{session} = Meter::History::Session->connect(
			connstr => "$self->{connstr} application_name='$self->{name}'",
			timeout => $self->{timeout},
			errors => "$self->{directory}/errors");
		last if $self->{session};
		die "no connection within $self->{timeout} s\n" if Time::HiRes::time() > $deadline;
		Time::HiRes::sleep(0.03);
	}
	if ($self->{told} != $self->{session}->backend)
	{
		my $file = backend_file($self->{directory}, $self->{name});
		open(my $out, '>', "$file.new") or die "$file: $!";
		print {$out} $self->{told} = $self->{session}->backend;
		close $out or die "$file: $!";
		rename("$file.new", $file) or die "$file: $!";
	}
	$before->() if $before;
	my $answer = $self->{session}->run(@statements);
	$self->_lose if $answer->{lost};
	return $answer;
}

# Forgets a connection that was lost.
sub _lose
{
	my ($self) = @_;
	$self->{session}->disconnect;
	undef $self->{session};
	return;
}

# --- recording

# Records events as planned until it is stopped; then sends again what it does not know the fate of.
sub recorder
{
	my ($self) = @_;
	my @later;
	while (!$self->_stopped)
	{
		push @later, $self->_perform(@later && $later[0]{later}-- <= 0 ? shift @later : $self->{plan}->operation);
		Time::HiRes::sleep($self->{pause}->between(0, 15) / 1000);
	}
	my $deadline = Time::HiRes::time() + $self->{timeout};
	while (@later)
	{
		die "retries do not end\n" if Time::HiRes::time() > $deadline;
		push @later, $self->_perform(shift @later);
	}
	return;
}

# Performs an operation, and returns the one that it leaves to be done, if any.
sub _perform
{
	my ($self, $operation) = @_;
	my $name = $self->_operation;
	my $transaction = $operation->{way} eq 'transaction';
	my @statements = statements($operation);
	unshift @statements, 'BEGIN' if $transaction;
	my $answer = $self->_run(sub {
			$self->{log}->append('invoke', operation => $name, events => $operation->{events},
				transaction => $transaction, retry => $operation->{retry} ? 1 : 0) }, @statements);
	my @rows = @{ $answer->{rows} // [] };
	shift @rows if $transaction;
	# A transaction whose COMMIT was not sent is not committed, even if its connection is lost.
	my $outcome = $answer->{rows} ? 'acknowledged' : $answer->{error} || $transaction ? 'failed' : 'unknown';
	if ($transaction && $answer->{rows} && !$operation->{rollback})
	{
		$self->{log}->append('commit', operation => $name);
		$answer = $self->{session}->run('COMMIT');
		$outcome = $answer->{rows} ? 'acknowledged' : $answer->{error} ? 'failed' : 'unknown';
		$self->_lose if $answer->{lost};
	}
	elsif ($transaction && !$answer->{lost})
	{
		$outcome = 'failed';
		$self->_lose if $self->{session}->run('ROLLBACK')->{lost};
	}
	$self->{log}->append('answer', operation => $name, outcome => $outcome, error => $answer->{error},
		rolled_back => $operation->{rollback} && !$answer->{error} ? 1 : 0,
		$outcome eq 'acknowledged' ? (results => [ map { @$_ } @rows ]) : ());
	return if $outcome eq 'acknowledged' || ($outcome eq 'failed' && !$operation->{again});
	return { %$operation, rollback => 0, retry => 1, later => $operation->{retry} ? 0 : $operation->{later} };
}

# The statements that record an operation's events, in their order: each returns rows of an id and a
# status.
sub statements
{
	my ($operation) = @_;
	my ($way, @events) = ($operation->{way}, @{ $operation->{events} });
	return _batch('meter.ingest', @events) if $way eq 'ingest';
	return _batch('meter.record_events', @events) if $way eq 'records';
	# Of a transaction's events the first few by themselves.
	my @singly = splice @events, 0, 3;
	return ((map { _single($_) } @singly), @events ? _batch('meter.record_events', @events) : ());
}

sub _single
{
	my ($event) = @_;
	return sprintf(q{SELECT meter.record_event('tokens', '%s', %s, '%s', '%s', '%s'), 'accepted'},
		$event->{user}, $event->{value}, _dimensions($event), $event->{key}, time_text($event->{time}));
}

sub _batch
{
	my ($function, @events) = @_;
	my $items = join ', ', map {
		sprintf '{"event_name": "tokens", "user_id": "%s", "value": %s, "dimensions": %s, "idempotency": "%s", "timestamp": "%s"}',
			$_->{user}, $_->{value}, _dimensions($_), $_->{key}, time_text($_->{time})
	} @events;
	return "SELECT event_id, status FROM $function('[$items]') ORDER BY ordinal";
}

sub _dimensions
{
	my ($event) = @_;
	return '{' . join(', ', map { qq("$_": "$event->{$_}") } grep { defined $event->{$_} } qw(model region)) . '}';
}

# Microseconds since 1970 as text that PostgreSQL and JSON readers take.
sub time_text
{
	my ($time) = @_;
	return POSIX::strftime('%Y-%m-%dT%H:%M:%S', gmtime int($time / 1_000_000)) . sprintf('.%06dZ', $time % 1_000_000);
}

# --- folding

# Folds all the time: mostly at once again, so that several do it at the same time, and after a while
# in which deltas gather.
sub folder
{
	my ($self) = @_;
	while (!$self->_stopped)
	{
		# At times a new generation of deltas begins, as otherwise after very many of them.
		$self->_run(undef, q{SELECT setval('meter.rollup_folded_seq', 1000000000)}) if $self->{pause}->chance(10);
		my $answer = $self->_run(undef, 'SELECT meter.fold()');
		$self->{log}->append('fold', error => $answer->{error}, lost => $answer->{lost},
			folded => $answer->{rows} ? $answer->{rows}[0][0][0] : 0);
		Time::HiRes::sleep($self->{pause}->pick(0, 0, 0.001, $self->{pause}->between(1, 60) / 1000));
	}
	return;
}

# --- reading

# Asks what is planned until it is stopped.
sub reader
{
	my ($self) = @_;
	while (!$self->_stopped)
	{
		$self->ask($self->{plan}->question);
		Time::HiRes::sleep($self->{pause}->between(0, 40) / 1000);
	}
	return;
}

# Asks a question, logs the answers, and returns them: that of usage alone or, under one snapshot, of
# usage (twice where the snapshot is held), of plain SQL, and of the rollups if they can answer it.
sub ask
{
	my ($self, $question) = @_;
	my $name = $self->_operation;
	my $usage = usage_query($question);
	my $ask = sub { $self->{log}->append('ask', operation => $name, question => $question) };
	my ($answer, @answers, @rollups);
	if (!$question->{compare})
	{
		$answer = $self->_run($ask, usage_query($question, $question->{hold}));
		@answers = @{ $answer->{rows} // [] };
	}
	else
	{
		@rollups = rollup_query($question);
		my @others = ($question->{hold} ? $usage : (), plain_query($question), @rollups);
		$answer = $self->_run($ask, 'BEGIN ISOLATION LEVEL REPEATABLE READ', $usage);
		if ($answer->{rows})
		{
			push @answers, $answer->{rows}[1];
			$self->{log}->append('snapshot', operation => $name);
			Time::HiRes::sleep($question->{hold});
			$answer = $self->_run(undef, @others, 'COMMIT');
			push @answers, splice @{ $answer->{rows} // [] }, 0, scalar @others;
		}
		$self->_lose if $answer->{error} && $self->{session}->run('ROLLBACK')->{lost};
	}
	$self->{log}->append('told', operation => $name, error => $answer->{error}, lost => $answer->{lost},
		$answer->{rows} ? (answers => \@answers, rollups => scalar @rollups) : ());
	return @answers;
}

# A question for meter.usage, which is called only `hold` seconds after its statement's snapshot was
# taken, if that is given. The rows: day, user, model, region, value, number of events; what was
# not asked for, and what is missing, is null.
sub usage_query
{
	my ($question, $hold) = @_;
	my %by = map { $_ => 1 } @{ $question->{by} };
	return sprintf q{SELECT %s, %s, %s, %s, value, event_count FROM meter.usage('tokens', '%s', '%s', %s, '{%s}', '%s', %s, %s, '%s')},
		$question->{day} ? q{to_char(bucket_start AT TIME ZONE 'UTC', 'YYYY-MM-DD')} : 'NULL',
		$by{user} ? 'user_id' : 'NULL',
		(map { $by{$_} ? "dimensions ->> '$_'" : 'NULL' } qw(model region)),
		time_text($question->{from}), time_text($question->{to}),
		defined $question->{user} ? "'$question->{user}'" : 'NULL',
		join(',', map { $_ eq 'user' ? 'user_id' : $_ } @{ $question->{by} }),
		defined $question->{model} ? qq({"model": "$question->{model}"}) : '{}',
		$question->{day} ? q{'day'} : 'NULL',
		$hold ? "(SELECT 'UTC' FROM pg_catalog.pg_sleep($hold))" : q{'UTC'},
		$question->{aggregation};
}

# The same question for the events themselves, with the same rows.
sub plain_query
{
	my ($question) = @_;
	my %by = map { $_ => 1 } @{ $question->{by} };
	my @columns = (
		$question->{day} ? q{to_char(e."timestamp" AT TIME ZONE 'UTC', 'YYYY-MM-DD')} : 'NULL',
		$by{user} ? 'e.user_id' : 'NULL',
		map { $by{$_} ? "e.dimensions ->> '$_'" : 'NULL' } qw(model region));
	my @groups = grep { $_ ne 'NULL' } @columns;
	my %value = (
		sum => 'coalesce(sum(e.value), 0)',
		count => 'count(*)',
		min => 'min(e.value)',
		max => 'max(e.value)',
		last => '(array_agg(e.value ORDER BY e."timestamp" DESC, e.id DESC))[1]');
	return sprintf q{SELECT %s, %s, count(*) FROM meter.meter_event e WHERE e.meter_id = (SELECT id FROM meter.meter WHERE event_name = 'tokens')
AND e."timestamp" >= '%s' AND e."timestamp" < '%s'%s%s%s},
		join(', ', @columns), $value{ $question->{aggregation} },
		time_text($question->{from}), time_text($question->{to}),
		defined $question->{user} ? " AND e.user_id = '$question->{user}'" : '',
		defined $question->{model} ? " AND e.dimensions ->> 'model' = '$question->{model}'" : '',
		@groups ? ' GROUP BY ' . join(', ', @groups) : '';
}

# The same question for what the rollups and the deltas that are not folded yet hold, with the same
# rows; nothing where neither the months of users nor the days or months of totals can tell.
sub rollup_query
{
	my ($question) = @_;
	my %by = map { $_ => 1 } @{ $question->{by} };
	my $of_users = $by{user} || defined $question->{user};
	return if !$question->{whole} || $question->{aggregation} !~ /^(sum|count)$/ || ($of_users && $question->{day});
	my @columns = (
		$question->{day} ? q{to_char(c.start AT TIME ZONE 'UTC', 'YYYY-MM-DD')} : 'NULL',
		$by{user} ? 'c.user_id' : 'NULL',
		map { $by{$_} ? "c.dimensions ->> '$_'" : 'NULL' } qw(model region));
	my @groups = grep { $_ ne 'NULL' } @columns;
	my @filters = ('true',
		defined $question->{user} ? "c.user_id = '$question->{user}'" : (),
		defined $question->{model} ? "c.dimensions ->> 'model' = '$question->{model}'" : ());
	return sprintf q{SELECT %s, coalesce(sum(%s), 0), coalesce(sum(c.event_count), 0) FROM (
SELECT %s AS user_id, dimensions, start, value_sum, event_count FROM %s WHERE grain = '%s' UNION ALL
SELECT user_id, dimensions, first_timestamp, value_sum, event_count FROM meter.rollup_pending) c WHERE %s%s},
		join(', ', @columns), $question->{aggregation} eq 'sum' ? 'c.value_sum' : 'c.event_count',
		$of_users ? ('user_id', 'meter.rollup') : ('NULL', 'meter.rollup_total'),
		$question->{day} ? 'd' : 'm',
		join(' AND ', @filters),
		@groups ? ' GROUP BY ' . join(', ', @groups) : '';
}

1;
