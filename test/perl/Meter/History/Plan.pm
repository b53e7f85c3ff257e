# What the clients of a history do, drawn from a seed: the same seed, stream and base time give the
# same operations in the same order, whatever the server answers.
package Meter::History::Plan;

use strict;
use warnings;
use Digest::SHA ();
use Time::Local ();

use constant {
	HOUR => 3600 * 1_000_000,
	DAY => 86400 * 1_000_000,
	# Events are from that many days before the base on, and those of these last ones are never dropped.
	DAYS => 100,
	DAYS_KEPT => 31,
	HORIZONS => 40,
};

my @users = map { "user-$_" } 1 .. 5;
my @models = map { "model-$_" } 1 .. 3;

# `seed`: any string; `stream`: who draws, so that each client has numbers of its own; `base`: the
# microsecond since 1970 that the timestamps lie around, not after now.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { seed => $args{seed}, stream => $args{stream}, base => $args{base}, number => 0, operations => 0,
		recent => [], aged => [] }, $class;
	$self->{state} = 1 + hex(substr(Digest::SHA::sha256_hex("$args{seed}/$args{stream}"), 0, 8)) % 2147483646;
	# Events that every recorder sends, so that they meet at the same key.
	$self->{shared} = $class->new(%args, stream => 'shared') if $args{stream} !~ /^(shared|contested)/;
	# And questions that every reader asks, so that one's answers can be held against another's.
	$self->{questions} = [ map { $self->{shared}->_question } 1 .. 24 ] if $self->{shared};
	return $self;
}

# --- numbers

# The next of the generator of Park and Miller: 1 to 2^31 - 2.
sub _next
{
	my ($self) = @_;
	return $self->{state} = $self->{state} * 48271 % 2147483647;
}

# An integer from `low` to `high`, both included; fewer than 2^31 of them.
sub between
{
	my ($self, $low, $high) = @_;
	return $low + int($self->_next / 2147483647 * ($high - $low + 1));
}

sub chance { my ($self, $percent) = @_; return $self->between(1, 100) <= $percent; }
sub pick { my ($self, @from) = @_; return $from[ $self->between(0, $#from) ]; }

sub shuffle
{
	my ($self, @items) = @_;
	for my $i (reverse 1 .. $#items)
	{
		my $j = $self->between(0, $i);
		@items[ $i, $j ] = @items[ $j, $i ];
	}
	return @items;
}

# --- events

# Microseconds from the base: mostly just now, some late by days or months, some in the future.
sub _offset
{
	my ($self) = @_;
	# Those that are to meet must not be too old to be taken.
	my $way = $self->between(1, $self->{stream} =~ /^contested/ ? 80 : 100);
	my $fraction = $self->between(0, 999_999) * 1000 + $self->between(0, 999);
	return -int(3 * HOUR / 1e9 * $fraction) if $way <= 60;
	return -int(3 * DAY / 1e9 * $fraction) if $way <= 80;
	return -int(DAYS * DAY / 1e9 * $fraction) if $way <= 87;
	return int(20 * HOUR / 1e9 * $fraction);
}

# A positive decimal, as text: what a double cannot hold is among them.
sub _value
{
	my ($self) = @_;
	my $way = $self->between(1, 100);
	return $self->between(1, 1000) if $way <= 30;
	return sprintf('%d.%06d', $self->between(0, 9999), $self->between(1, 999_999)) if $way <= 90;
	return sprintf('%d%09d.%09d%09d', $self->between(1, 999_999_999), map { $self->between(0, 999_999_999) } 1 .. 3);
}

# The next event: user, key, value, time (microseconds since 1970), model and region; a region may be
# missing.
sub event
{
	my ($self) = @_;
	my %event = (
		user => $self->pick(@users),
		key => "$self->{stream} " . ++$self->{number},
		value => $self->_value,
		time => $self->{base} + $self->_offset,
		model => $self->pick(@models));
	my $region = $self->pick('eu', 'us', undef);
	$event{region} = $region if defined $region;
	return \%event;
}

# --- operations

# The next operation of a recorder:
#   way        single (record_event), records (record_events), ingest, or transaction
#   events     what it sends; some were sent before, by it or by others
#   isolation  of a transaction: its isolation level
#   contended  of a transaction: others send some of its events in another order, so it may be the
#              victim of a deadlock; no other operation may
#   pauses     of a transaction: seconds to wait before each of its statements
#   rollback   of a transaction: it is rolled back
#   prepare    of a transaction: the seconds for which it is left prepared, or 0
#   again      events of it that were not recorded are sent once more, by another operation
#   later      how many operations come before that
# `epoch`, a number: those who ask for an operation at the same epoch contend for the same events, which
# are the only ones that depend on it; without one it is counted.
sub operation
{
	my ($self, $epoch) = @_;
	$self->{operations}++;
	my $way = $self->pick(qw(single single records ingest transaction transaction transaction));
	my $transaction = $way eq 'transaction';
	my $count = $way eq 'single' ? 1 : $transaction ? $self->between(1, 6) : $self->between(1, 12);
	$count = $self->between(40, 150) if $count > 1 && $self->chance(3);
	my @new = map { $self->event } 1 .. $count;
	my $contended = $transaction && $self->chance(40);
	my $prepare = $transaction && !$contended && $self->chance(12) ? $self->between(1, 25) / 10 : 0;
	my $isolation = $transaction && $self->chance(35) ? $self->pick('REPEATABLE READ', 'SERIALIZABLE') : 'READ COMMITTED';
	my @old = $contended ? $self->_contested($epoch // int($self->{operations} / 15)) : $self->_old_events($transaction);
	push @old, $new[0] if $self->chance(5);
	my @events = $way eq 'single' && @old ? ($old[0]) : $contended ? (@old, $self->shuffle(@new)) : $self->shuffle(@new, @old);
	# What it leaves prepared would keep it waiting for itself.
	$self->_remember(@new) unless $prepare;
	return {
		way => $way,
		events => \@events,
		isolation => $isolation,
		contended => $contended ? 1 : 0,
		pauses => [ map { $contended ? $self->between(5, 40) / 1000 : $isolation ne 'READ COMMITTED' ? $self->between(1, 15) / 1000 : 0 } 1 .. 4 ],
		rollback => $transaction && $self->chance(40) ? 1 : 0,
		prepare => $prepare,
		again => $self->chance(60) ? 1 : 0,
		later => $self->pick(0, 0, $self->between(1, 40)),
	};
}

# Events that were sent before or that others send too.
sub _old_events
{
	my ($self, $transaction) = @_;
	my @old;
	push @old, $self->pick(@{ $self->{recent} }) if @{ $self->{recent} } && $self->chance(20);
	push @old, $self->pick(@{ $self->{aged} }) if @{ $self->{aged} } && $self->chance(8);
	# A transaction sends one of those that all recorders send, so that whoever holds one waits for no
	# other: nobody is in a deadlock. A batch may send several, in any order.
	push @old, map { $self->{shared}->event } 1 .. ($transaction ? 1 : $self->between(1, 4)) if $self->chance(25);
	return @old;
}

# Two or three of a few events, the same for all recorders at an epoch, in any order.
sub _contested
{
	my ($self, $epoch) = @_;
	if (!$self->{contested} || $self->{epoch} != $epoch)
	{
		my $plan = Meter::History::Plan->new(seed => $self->{seed}, stream => "contested $epoch", base => $self->{base});
		@$self{qw(epoch contested)} = ($epoch, [ map { $plan->event } 1 .. 5 ]);
	}
	my @some = $self->shuffle(@{ $self->{contested} });
	return @some[ 0 .. $self->between(1, 2) ];
}

# Keeps events to be sent again: the first of an operation, and those that will be dropped.
sub _remember
{
	my ($self, @events) = @_;
	push @{ $self->{recent} }, $events[0];
	push @{ $self->{aged} }, grep { $_->{time} < $self->oldest_kept } @events;
	for ([ recent => 20 ], [ aged => 60 ])
	{
		my ($kind, $most) = @$_;
		shift @{ $self->{$kind} } while @{ $self->{$kind} } > $most;
	}
	return;
}

# --- dropping

# Before this no event is sure to be kept.
sub oldest_kept { my ($self) = @_; return $self->{base} - DAYS_KEPT * DAY; }

# The times before which events are dropped, one after the other: starts of months (UTC), where whole
# partitions go, and times between.
sub horizons
{
	my ($self) = @_;
	my $last = $self->oldest_kept;
	my $step = int((DAYS - DAYS_KEPT) * DAY / HORIZONS) + 1;
	my @horizons;
	for my $n (reverse 0 .. HORIZONS)
	{
		my $time = $last - $n * $step;
		my (undef, undef, undef, undef, $month, $year) = gmtime int($time / 1_000_000);
		my $start = Time::Local::timegm(0, 0, 0, 1, $month, $year) * 1_000_000;
		push @horizons, $start if @horizons && $horizons[-1] < $start;
		push @horizons, $time;
	}
	return @horizons;
}

# --- questions

# The next question of a reader, for usage:
#   from, to     the period
#   whole        whether it holds every event
#   user, model  undefined: any
#   by           of user, model, region: what it is grouped by
#   day          whether it is asked by day
#   aggregation  sum, count, min, max or last
#   compare      whether it is asked of usage, plain SQL and the rollups under one snapshot
#   hold         seconds that the snapshot is held before usage is asked, or asked again, or 0
#   times        how many times usage is asked again, or 1
sub question
{
	my ($self) = @_;
	my $question = $self->pick(@{ $self->{questions} });
	my $compare = $question->{aggregation} =~ /^(min|max|last)$/ || $self->chance(50);
	return { %$question, compare => $compare ? 1 : 0, hold => $self->chance(25) ? $self->between(1, 20) / 100 : 0 };
}

sub _question
{
	my ($self) = @_;
	my ($from, $to, $whole) = $self->_period;
	return {
		whole => $whole ? 1 : 0,
		from => $from,
		to => $to,
		user => $self->chance(30) ? $self->pick(@users) : undef,
		model => $self->chance(15) ? $self->pick(@models) : undef,
		by => $self->pick([], [], ['user'], ['model'], ['region'], [ 'user', 'model' ], [ 'user', 'model', 'region' ]),
		day => $self->chance(25) ? 1 : 0,
		aggregation => $self->pick(qw(sum sum sum sum sum count count min max last)),
	};
}

# A period, as microseconds since 1970: one that holds every event, or one that cuts months, days or
# hours at some microsecond.
sub _period
{
	my ($self) = @_;
	my $base = $self->{base};
	my @whole = ($base - (DAYS + 10) * DAY, $base + 2 * DAY, 1);
	return @whole if $self->chance(50);
	return @{ $self->pick(
			[ $base - 1 * HOUR - 123_457, $whole[1] ],
			[ $base - 60 * DAY + 1, $base - 90 * 60_000_001 ],
			[ $base - 40 * DAY + 1, $base - 90 * 60_000_001 ],
			[ $base - 30 * DAY - 7, $whole[1] ],
			[ $whole[0], $base - 30 * 60_000_000 ],
			[ $base - 2 * DAY, $base + 3 * HOUR + 5 ]) };
}

# Every grouping of everything, for the end. Of users the days of dropped months may be gone.
sub closing_questions
{
	my ($self) = @_;
	my $to = $self->{base} + 2 * DAY;
	my @questions;
	for my $by ([], ['user'], [ 'user', 'model', 'region' ])
	{
		for my $day (0, 1)
		{
			my $whole = !$day || !@$by ? 1 : 0;
			my $from = $whole ? $self->{base} - (DAYS + 10) * DAY : $self->oldest_kept;
			push @questions, map {
				{ from => $from, to => $to, whole => $whole, by => $by, day => $day, aggregation => $_, compare => 1, hold => 0 }
			} qw(sum count last);
		}
	}
	return @questions;
}

# --- strikes

# A round of a nemesis: strikes, each with what is struck (`kind`), and seconds to wait before. The
# last one of it is the given one.
sub strikes
{
	my ($self, $last, @light) = @_;
	my @kinds = ((map { $self->pick(@light) } 1 .. $self->between(2, 5)), $last);
	return map { { kind => $_, after => $self->between(5, 30) / 100 } } @kinds;
}

1;
