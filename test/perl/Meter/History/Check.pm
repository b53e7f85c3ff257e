# The judge of a history: takes its records one after the other, as Meter::History::Log returns them,
# and complains where exactly-once recording and exact usage do not hold. It knows no database, and
# adds up by itself, in integers of 10^-18.
#
# The records, each a hash with its `type`; an operation's name is unique in the history:
#   invoke  operation, events (each: user, key, value, time, model, region), transaction, retry,
#           isolation (of a transaction), contended (it may be in a deadlock)
#   prepared  operation: it is left prepared, or perhaps so; its answer comes when it is ended
#   commit  operation: from now on a transaction may be committed; any other from its invocation on
#   answer  operation, outcome (acknowledged, failed: it is certain that it is not committed, unknown),
#           results (for each event: id, and recorded, duplicate or accepted, which is one of them; or
#           invalid, where it is too old), rolled_back (it failed since its client wanted that), error (an
#           SQLSTATE), was_prepared
#   ask     operation, question (see Meter::History::Plan), held (it keeps its snapshot), standby
#   snapshot  operation: what is committed from now on that read does not see
#   told    operation, answers (one or several to the same question under one snapshot: rows of day,
#           user, model, region, value, number of events; ~ is null), plain (the place of the one that is
#           of the events), rollups (how many of those are of the rollup tables), or error, or lost
#   fold    folded (a number), or error, or lost
#   drop    horizon: from now on events before it may be dropped
#   dropped  horizon, or error, or lost: without these they are, and none is taken any more
#   keep    kind: it is begun
#   kept    kind (make, move, vacuum, rebuild, verify), from (a time), wrong (cells), or error, or lost
#   worker_fold  the background worker has folded, while nobody else did
#   strike  kind
#   stored  rows (user, key, number of such events, the greatest id): all events at the end
package Meter::History::Check;

use strict;
use warnings;
use Math::BigInt;
use POSIX ();
use Meter::History::Cells qw(cell is_modelled weight add_event subtract copy amount decimal);

# Steps of the search for the operations that a read has seen, before it is given up.
use constant SEARCH_STEPS => 20_000;

# What a statement may fail with while servers are killed and statements cancelled.
my %expected_error = map { $_ => 1 } qw(57014 57P01 57P02 57P03);

sub new
{
	my ($class) = @_;
	return bless {
		events => {},      # by user and key: the event, and what is known of it
		operations => {},  # by name
		open => {},        # those that may be committed without our knowing, by name
		reads => {},       # those that have been asked for and not told, by name
		questions => {},   # by text: the question, its sum over certain events, the most that was read
		settled => [],     # the events that are certain, in the order in which they became so
		owners => {},      # by id: the event
		clock => 0,        # the number of records so far
		may_drop => -1,    # events before this time may be dropped,
		must_drop => -1,   # and those before this one are
		moves => 0,        # how many times months have begun or ended to be moved: odd while they are
		complaints => [],
		counts => {},
	}, $class;
}

# Takes a record, the next in time.
sub add
{
	my ($self, $record) = @_;
	$self->{clock}++;
	my $take = $self->can("_take_$record->{type}") or die "a record of type $record->{type}";
	$self->$take($record);
	return;
}

# Ends the history: judges what had to wait, and what was never answered.
sub finish
{
	my ($self) = @_;
	for my $name (sort keys %{ $self->{operations} })
	{
		my $operation = $self->{operations}{$name};
		$self->_complain("$name was never answered") unless $operation->{outcome};
		$self->_release($operation);
	}
	$self->_complain("$_ was never answered") for sort keys %{ $self->{reads} };
	# What is too old cannot be sent again to see.
	$self->{counts}{unresolved} = grep {
		grep { !$_->{certain} && $_->{time} >= $self->{must_drop} } @{ $_->{events} }
	} values %{ $self->{open} };
	return;
}

# Sentences, one for each thing that is wrong.
sub complaints { my ($self) = @_; return @{ $self->{complaints} }; }

# How much was seen, by name; what was never seen is 0.
sub count { my ($self, $name) = @_; return $self->{counts}{$name} // 0; }
sub counts { my ($self) = @_; return $self->{counts}; }

sub _complain { my ($self, $text) = @_; push @{ $self->{complaints} }, $text; return; }
sub _count { my ($self, $name, $by) = @_; $self->{counts}{$name} += $by // 1; return; }

# `expected`: the SQLSTATEs that it may fail with besides.
sub _failed
{
	my ($self, $what, $error, @expected) = @_;
	$self->_count('errors');
	$self->_count("errors_$error") unless $expected_error{$error};
	$self->_complain("$what failed with $error") unless $expected_error{$error} || grep { $_ eq $error } @expected;
	return;
}

# --- recording

sub _take_invoke
{
	my ($self, $record) = @_;
	my $name = $record->{operation};
	my @events = map { $self->_event($_) } @{ $record->{events} };
	my $operation = { name => $name, events => \@events, invoked => $self->{clock}, waiting => [], dropped => $self->{must_drop},
		isolation => $record->{isolation} // 'READ COMMITTED', contended => $record->{contended} };
	$self->{operations}{$name} = $operation;
	$self->_count('operations');
	$self->_count('retried') if $record->{retry};
	$self->_open($operation) unless $record->{transaction};
	return;
}

sub _take_commit
{
	my ($self, $record) = @_;
	$self->_open($self->{operations}{ $record->{operation} });
	return;
}

# An event by its user and key, which is the same whoever sends it.
sub _event
{
	my ($self, $sent) = @_;
	my $identity = "$sent->{user}/$sent->{key}";
	my $event = $self->{events}{$identity} //=
	  {
		%$sent,
		identity => $identity,
		amount => amount($sent->{value}),
		day => POSIX::strftime('%Y-%m-%d', gmtime int($sent->{time} / 1_000_000)),
		senders => {} };
	$self->_complain("$identity is sent with another value, time or dimensions")
	  if grep { ($event->{$_} // '') ne ($sent->{$_} // '') } qw(value time model region);
	return $event;
}

# From now on the operation may be committed.
sub _open
{
	my ($self, $operation) = @_;
	$self->{open}{ $operation->{name} } = $operation;
	$_->{senders}{ $operation->{name} } = 1 for @{ $operation->{events} };
	push @{ $_->{candidates} }, $operation for grep { !$_->{fixed} } values %{ $self->{reads} };
	return;
}

sub _take_answer
{
	my ($self, $record) = @_;
	my $operation = $self->{operations}{ $record->{operation} };
	my $outcome = $operation->{outcome} = $record->{outcome};
	$self->_failed($operation->{name}, $record->{error}, $self->_expected($operation)) if $record->{error};
	$self->_count($outcome);
	$self->_count('rolled_back') if $record->{rolled_back};
	$self->_count("prepared_$outcome") if $record->{was_prepared};
	if ($outcome eq 'acknowledged')
	{
		$self->_take_results($operation, $record->{results});
	}
	if ($outcome eq 'failed')
	{
		delete $self->{open}{ $operation->{name} };
		delete $_->{senders}{ $operation->{name} } for @{ $operation->{events} };
	}
	if ($outcome eq 'acknowledged')
	{
		# One by one: an operation may hold an event twice.
		$_->{certain} || $self->_settle($_) for @{ $operation->{events} };
		# Also those of which nothing was known, and that this one has repeated.
		for my $open (values %{ $self->{open} })
		{
			delete $self->{open}{ $open->{name} } if $open->{outcome} && !grep { !$_->{certain} } @{ $open->{events} };
		}
	}
	$self->_release($operation);
	return;
}

# What an operation may fail with, nobody striking.
sub _expected
{
	my ($self, $operation) = @_;
	return (
		$operation->{isolation} eq 'READ COMMITTED' ? () : '40001',
		$operation->{contended} ? '40P01' : (),
		(grep { $_->{time} < $self->{may_drop} } @{ $operation->{events} }) ? '55000' : ());
}

sub _take_prepared { my ($self) = @_; $self->_count('prepared'); return; }

# What each event of an acknowledged operation was answered with.
sub _take_results
{
	my ($self, $operation, $results) = @_;
	my @events = @{ $operation->{events} };
	my $name = $operation->{name};
	$self->_complain("$name: " . @events . ' events, ' . @$results . ' answers') if @events != @$results;
	my %mine;
	for my $i (0 .. $#events)
	{
		my ($event, $id, $status) = ($events[$i], @{ $results->[$i] // [ '~', 'none' ] });
		my $what = "$name: $event->{identity}";
		$self->_count($status);
		if ($status eq 'invalid' && $event->{time} < $self->{may_drop})
		{
			$self->_refuse($operation, $event);
			next;
		}
		$self->_complain("$what is too old and is answered with $status") if $event->{time} < $operation->{dropped};
		if ($status eq 'recorded')
		{
			$self->_complain("$what is recorded a second time, with id $id")
			  if $event->{recorded} || $mine{ $event->{identity} } || ($event->{certain} && $event->{certain} < $operation->{invoked});
			$event->{recorded} = 1;
		}
		elsif ($status eq 'duplicate')
		{
			$self->_complain("$what is called a duplicate, and nobody else has sent it")
			  unless $mine{ $event->{identity} } || grep { $_ ne $name } keys %{ $event->{senders} };
		}
		elsif ($status ne 'accepted')
		{
			$self->_complain("$what is answered with $status");
			next;
		}
		$mine{ $event->{identity} } = 1;
		$event->{id} //= $id;
		$self->_complain("$what has id $id, and before $event->{id}") if $event->{id} ne $id;
		my $owner = $self->{owners}{$id} //= $event->{identity};
		$self->_complain("$what has id $id, and so has $owner") if $owner ne $event->{identity};
	}
	return;
}

# An event that is too old is no part of the operation, which is committed without it.
sub _refuse
{
	my ($self, $operation, $event) = @_;
	delete $event->{senders}{ $operation->{name} };
	$operation->{events} = [ grep { $_ != $event } @{ $operation->{events} } ];
	return;
}

# From now on every read has to count the event.
sub _settle
{
	my ($self, $event) = @_;
	$event->{certain} = $self->{clock};
	push @{ $self->{settled} }, $event;
	add_event($_->{certain}, $_->{question}, $event) for values %{ $self->{questions} };
	return;
}

# Judges the reads that waited for this operation's outcome alone.
sub _release
{
	my ($self, $operation) = @_;
	for my $read (splice @{ $operation->{waiting} })
	{
		$self->_judge($read) if --$read->{waits} == 0;
	}
	return;
}

# --- reading

sub _take_ask
{
	my ($self, $record) = @_;
	my $question = $record->{question};
	my $text = join '|', map { $_ // '~' } @$question{qw(from to user model day aggregation)}, @{ $question->{by} };
	my $known = $self->{questions}{$text} //= $self->_new_question($question);
	$self->{reads}{ $record->{operation} } = {
		name => $record->{operation},
		text => $text,
		known => $known,
		asked => $self->{clock},
		settled => scalar @{ $self->{settled} },
		seen => $known->{seen},
		held => $record->{held},
		standby => $record->{standby},
		moves => $self->{moves},
		candidates => [ values %{ $self->{open} } ],
	};
	return;
}

sub _take_snapshot { my ($self, $record) = @_; $self->{reads}{ $record->{operation} }{fixed} = 1; return; }

# A question that is asked for the first time, with the sum over all that is certain.
sub _new_question
{
	my ($self, $question) = @_;
	my $known = { question => $question, certain => {}, seen => {}, amounts => {} };
	add_event($known->{certain}, $question, $_) for grep { $_->{certain} } values %{ $self->{events} };
	return $known;
}

sub _take_told
{
	my ($self, $record) = @_;
	my $read = delete $self->{reads}{ $record->{operation} };
	my @answers = @{ $record->{answers} // [] };
	if (!@answers)
	{
		$self->_failed($read->{name}, $record->{error}, $self->_expected_of_read($read)) if $record->{error};
		$self->_count('reads_failed');
		return;
	}
	$self->_count($read->{standby} ? 'reads_on_standby' : 'reads');
	$self->_count('rollups_compared', $record->{rollups}) if $record->{rollups};
	$self->_count('answers_held', $record->{plain} - 2) if ($record->{plain} // 0) > 2;
	# Dropped events are usage still; and where months were moved to partitions since the snapshot was taken,
	# PostgreSQL no longer looks for their events where that snapshot sees them.
	my $dropped = $read->{known}{question}{from} < $self->{may_drop};
	if (defined $record->{plain} && ($dropped || $read->{moves} % 2 || $read->{moves} != $self->{moves}))
	{
		splice @answers, $record->{plain}, 1;
		$self->_count($dropped ? 'reads_of_dropped' : 'reads_of_moved');
	}
	elsif (defined $record->{plain}) { $self->_count('reads_of_events'); }
	if (@answers > 1)
	{
		$self->_count('pairs', @answers - 1);
		my ($first, @others) = map { _canonical($_) } @answers;
		for my $i (0 .. $#others)
		{
			my ($only_first, $only_other) = map { join('; ', @$_) || 'nothing' } _difference($first, $others[$i]);
			next if $only_first eq $only_other;
			$self->_complain("$read->{name} ($read->{text}): two answers under one snapshot, 1 and " . ($i + 2) . ' of '
				  . @answers . ": $only_first against $only_other");
			last;
		}
	}
	# What a standby has not replayed yet it does not tell; that is no concern of the primary's readers.
	return if $read->{standby};
	$read->{cells} = $self->_cells($read, $answers[0]);
	$self->_compare_with_seen($read);
	my @unanswered = grep { !$_->{outcome} } @{ $read->{candidates} };
	$read->{waits} = @unanswered;
	push @{ $_->{waiting} }, $read for @unanswered;
	$self->_judge($read) unless @unanswered;
	return;
}

# What a read may fail with, nobody striking: it needs events that are dropped; on a standby it is in the
# way of what is to be replayed.
sub _expected_of_read
{
	my ($self, $read) = @_;
	return (
		$read->{known}{question}{from} < $self->{may_drop} ? ('55000', $read->{held} ? '40001' : ()) : (),
		$read->{standby} ? ('40001', '40P01') : ());
}

# Rows as texts, sorted, which are the same for the same usage.
sub _canonical
{
	my ($rows) = @_;
	return [ sort map { my @row = @$_; $row[4] =~ s/\.?0+$// if $row[4] =~ /\./; join ' ', @row } @$rows ];
}

# What each of two lists of different texts has that the other has not.
sub _difference
{
	my ($left, $right) = @_;
	my %in_left = map { $_ => 1 } @$left;
	my %in_right = map { $_ => 1 } @$right;
	return ([ grep { !$in_right{$_} } @$left ], [ grep { !$in_left{$_} } @$right ]);
}

# Rows as cells: by day, user, model and region an amount and a number of events. Only of sums and
# counts is the amount known; it is 0 for others.
sub _cells
{
	my ($self, $read, $rows) = @_;
	my $modelled = is_modelled($read->{known}{question});
	# Most are what they were the last time.
	my $amounts = $read->{known}{amounts};
	my %cells;
	for my $row (@$rows)
	{
		my $name = join ' ', @$row[ 0 .. 3 ];
		$self->_complain("$read->{name} ($read->{text}): two rows for $name") if $cells{$name};
		next unless $row->[5] > 0;
		my $text = $modelled ? $row->[4] : '0';
		$amounts->{$name} = [ $text, amount($text) ] unless $amounts->{$name} && $amounts->{$name}[0] eq $text;
		$cells{$name} = [ $amounts->{$name}[1], $row->[5] ];
	}
	return \%cells;
}

# What one read has seen, each that begins after it has ended sees too: amounts only grow.
sub _compare_with_seen
{
	my ($self, $read) = @_;
	my ($cells, $seen) = @$read{qw(cells seen)};
	for my $name (sort keys %$seen)
	{
		my ($amount, $count) = @{ $cells->{$name} // [ Math::BigInt->bzero, 0 ] };
		next if $count >= $seen->{$name}[1] && $amount >= $seen->{$name}[0];
		$self->_complain("$read->{name} ($read->{text}): $name has $count events of " . decimal($amount)
			  . ', an earlier read had ' . $seen->{$name}[1] . ' of ' . decimal($seen->{$name}[0]));
	}
	# Not changed in place: other reads hold on to what it was.
	my %most = %{ $read->{known}{seen} };
	for my $name (keys %$cells)
	{
		$most{$name} = $cells->{$name} if !$most{$name} || $cells->{$name}[1] > $most{$name}[1];
	}
	$read->{known}{seen} = \%most;
	return;
}

# A read is right if it has seen all that was certain when it was asked for, and besides that a set of
# whole operations out of those that may have been committed before it was told.
sub _judge
{
	my ($self, $read) = @_;
	my $question = $read->{known}{question};
	# What has become certain since it was asked for it need not have seen.
	my %since;
	my $settled = $self->{settled};
	add_event(\%since, $question, $settled->[$_]) for $read->{settled} .. $#$settled;
	my ($cells, $certain) = ($read->{cells}, $read->{known}{certain});
	my %left;
	for my $name (sort keys %$certain, grep { !$certain->{$_} } keys %$cells)
	{
		my $cell = $cells->{$name} // [ Math::BigInt->bzero, 0 ];
		my ($amount, $count) = @{ $certain->{$name} // [ Math::BigInt->bzero, 0 ] };
		if (my $later = $since{$name})
		{
			$amount = $amount - $later->[0];
			$count -= $later->[1];
		}
		my $order = $cell->[0]->bcmp($amount);
		if ($cell->[1] < $count || $order < 0)
		{
			$self->_complain("$read->{name} ($read->{text}): too little: $name has $cell->[1] events of " . decimal($cell->[0])
				  . ", acknowledged before were $count of " . decimal($amount));
			return;
		}
		$left{$name} = [ $cell->[0] - $amount, $cell->[1] - $count ] if $order || $cell->[1] != $count;
	}
	my @sets = $self->_additions($read, $question);
	my %most;
	my %all = map { $_->{identity} => $_ } map { @$_ } @sets;
	add_event(\%most, $question, $_) for values %all;
	for my $name (sort keys %left)
	{
		my ($amount, $count) = @{ $most{$name} // [ Math::BigInt->bzero, 0 ] };
		next if $left{$name}[1] <= $count && $left{$name}[0] <= $amount;
		$self->_complain("$read->{name} ($read->{text}): too much: $name has $left{$name}[1] events of "
			  . decimal($left{$name}[0]) . " more than were acknowledged before, $count of " . decimal($amount) . ' were under way');
		return;
	}
	my $steps = SEARCH_STEPS;
	my $found = _explain($question, \%left, {}, \$steps, @sets);
	if ($found) { $self->_count('reads_explained'); }
	elsif ($steps <= 0) { $self->_count('reads_undecided'); }
	else
	{
		$self->_complain("$read->{name} ($read->{text}): no set of whole operations accounts for "
			  . join(', ', map { "$_: $left{$_}[1] events of " . decimal($left{$_}[0]) } sort keys %left));
	}
	$self->_count('reads_with_choice') if $found && @sets;
	return;
}

# What each operation under way may have added to a read: its events that the question is about and
# that were not certain before. Those without any are left out. What is too old may have been refused
# while the rest of a batch was committed, so it counts by itself as long as no answer says which.
sub _additions
{
	my ($self, $read, $question) = @_;
	my (@sets, %old);
	for my $operation (@{ $read->{candidates} })
	{
		next if $operation->{outcome} && $operation->{outcome} eq 'failed';
		my %events = map { $_->{identity} => $_ }
		  grep { defined cell($question, $_) && !($_->{certain} && $_->{certain} < $read->{asked}) } @{ $operation->{events} };
		if (($operation->{outcome} // '') ne 'acknowledged')
		{
			$old{$_} = delete $events{$_} for grep { $events{$_}{time} < $self->{may_drop} } keys %events;
		}
		next unless %events;
		# Those that nothing will ever be known of come last: they are hardly ever what was seen.
		if ($operation->{outcome}) { push @sets, [ values %events ]; }
		else { unshift @sets, [ values %events ]; }
	}
	return (@sets, map { [$_] } values %old);
}

# Whether some of the sets add up to exactly what is left; an event in two of them counts once.
sub _explain
{
	my ($question, $left, $taken, $steps, @sets) = @_;
	return 1 unless %$left;
	return 0 if !@sets || --$$steps <= 0;
	my ($first, @rest) = @sets;
	my $with = copy($left);
	my %taken = %$taken;
	my $fits = 1;
	for my $event (grep { !$taken{ $_->{identity} }++ } @$first)
	{
		$fits = subtract($with, cell($question, $event), weight($question, $event), 1);
		last unless $fits;
	}
	return 1 if $fits && _explain($question, $with, \%taken, $steps, @rest);
	return _explain($question, $left, $taken, $steps, @rest);
}

# --- the rest

sub _take_fold
{
	my ($self, $record) = @_;
	$self->_count($record->{error} || $record->{lost} ? 'folds_failed' : 'folds');
	return $self->_failed('a fold', $record->{error}) if $record->{error};
	$self->_count('folded', $record->{folded});
	return;
}

sub _take_drop
{
	my ($self, $record) = @_;
	$self->{may_drop} = $record->{horizon} if $record->{horizon} > $self->{may_drop};
	return;
}

sub _take_dropped
{
	my ($self, $record) = @_;
	$self->_count($record->{error} || $record->{lost} ? 'drops_failed' : 'drops');
	# Somebody may have read or recorded all the time into what is to be dropped.
	return $self->_failed('dropping events', $record->{error}, '55P03') if $record->{error};
	$self->{must_drop} = $record->{horizon} if !$record->{lost} && $record->{horizon} > $self->{must_drop};
	return;
}

sub _take_keep { my ($self, $record) = @_; $self->{moves}++ if $record->{kind} eq 'move'; return; }

sub _take_kept
{
	my ($self, $record) = @_;
	my $kind = $record->{kind};
	$self->{moves}++ if $kind eq 'move';
	$self->_count($record->{error} || $record->{lost} ? 'keeping_failed' : "kept_$kind");
	$self->_complain("$record->{wrong} cells differ from their events") if $record->{wrong};
	return unless $record->{error};
	$self->_failed("to $kind", $record->{error},
		$kind =~ /^(make|move)$/ ? '55P03' : (),
		$kind =~ /^(rebuild|verify)$/ && $record->{from} - 31 * 86_400_000_000 < $self->{may_drop} ? '55000' : (),
		$kind eq 'verify' ? '40001' : ());
	return;
}

sub _take_worker_fold { my ($self) = @_; $self->_count('worker_folds'); return; }
sub _take_strike { my ($self, $record) = @_; $self->_count("strike_$record->{kind}"); return; }

# Each event that was acknowledged is there once, by its id; each that nobody could have committed is
# not; any other at most once.
sub _take_stored
{
	my ($self, $record) = @_;
	my %stored = map { ("$_->[0]/$_->[1]" => $_) } @{ $record->{rows} };
	for my $identity (sort keys %{ $self->{events} })
	{
		my $event = $self->{events}{$identity};
		my (undef, undef, $count, $id) = @{ delete $stored{$identity} // [ undef, undef, 0, undef ] };
		$self->_count('events_stored', $count);
		$self->_count('events_absent') if $count == 0;
		my $wanted = $event->{time} < $self->{must_drop} ? 0 : 1;
		$self->_count('events_dropped') if $event->{certain} && !$wanted;
		$self->_complain("$identity was acknowledged and is stored $count times") if $event->{certain} && $wanted && $count != 1;
		$self->_complain("$identity is stored $count times") if !$event->{certain} && $count > 1;
		$self->_complain("$identity is too old and is stored") if $count && !$wanted;
		$self->_complain("$identity is stored, and nobody could have committed it") if $count && !%{ $event->{senders} };
		$self->_complain("$identity is stored with id $id, the answer was $event->{id}")
		  if $count == 1 && defined $event->{id} && $event->{id} ne $id;
	}
	$self->_complain("$_ is stored, and nobody has sent it") for sort keys %stored;
	return;
}

1;
