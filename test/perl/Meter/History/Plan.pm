# What the clients of a history do, drawn from a seed: the same seed, stream and base time give the
# same operations in the same order, whatever the server answers.
package Meter::History::Plan;

use strict;
use warnings;
use Digest::SHA ();

use constant {
	HOUR => 3600 * 1_000_000,
	DAY => 86400 * 1_000_000,
};

my @users = map { "user-$_" } 1 .. 5;
my @models = map { "model-$_" } 1 .. 3;

# `seed`: any string; `stream`: who draws, so that each client has numbers of its own; `base`: the
# microsecond since 1970 that the timestamps lie around, not after now.
sub new
{
	my ($class, %args) = @_;
	my $self = bless { stream => $args{stream}, base => $args{base}, number => 0, recent => [] }, $class;
	$self->{state} = 1 + hex(substr(Digest::SHA::sha256_hex("$args{seed}/$args{stream}"), 0, 8)) % 2147483646;
	# Events that every recorder sends, so that they meet at the same key.
	$self->{shared} = $class->new(%args, stream => 'shared') if $args{stream} ne 'shared';
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
	my $way = $self->between(1, 100);
	my $fraction = $self->between(0, 999_999) * 1000 + $self->between(0, 999);
	return -int(3 * HOUR / 1e9 * $fraction) if $way <= 60;
	return -int(3 * DAY / 1e9 * $fraction) if $way <= 80;
	return -int(60 * DAY / 1e9 * $fraction) if $way <= 90;
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
#   way       single (record_event), records (record_events), ingest, or transaction
#   events    what it sends; some were sent before, by it or by others
#   rollback  of a transaction: it is rolled back
#   again     events of it that were not recorded are sent once more, by another operation
#   later     how many operations come before that
sub operation
{
	my ($self) = @_;
	my $way = $self->pick(qw(single single records ingest transaction transaction));
	my $count = $way eq 'single' ? 1 : $way eq 'transaction' ? $self->between(1, 6) : $self->between(1, 12);
	$count = $self->between(40, 150) if $count > 1 && $self->chance(3);
	my @events = map { $self->event } 1 .. $count;
	my @old;
	push @old, $self->pick(@{ $self->{recent} }) if @{ $self->{recent} } && $self->chance(20);
	# One at the most: two recorders that each waited for a key of the other would deadlock.
	my $shared = $self->chance(25) ? $self->{shared}->event : undef;
	push @old, $shared if defined $shared;
	push @{ $self->{recent} }, $events[0];
	shift @{ $self->{recent} } if @{ $self->{recent} } > 20;
	push @old, $events[0] if $self->chance(5);
	@events = $way eq 'single' && @old ? ($old[0]) : $self->shuffle(@events, @old);
	return {
		way => $way,
		events => \@events,
		rollback => $way eq 'transaction' && $self->chance(40),
		again => $self->chance(60),
		later => $self->pick(0, 0, $self->between(1, 40)),
	};
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
	my @whole = ($base - 70 * DAY, $base + 2 * DAY, 1);
	return @whole if $self->chance(50);
	return @{ $self->pick(
			[ $base - 1 * HOUR - 123_457, $whole[1] ],
			[ $base - 40 * DAY + 1, $base - 90 * 60_000_001 ],
			[ $whole[0], $base - 30 * 60_000_000 ],
			[ $base - 2 * DAY, $base + 3 * HOUR + 5 ]) };
}

# Every grouping of everything, for the end.
sub closing_questions
{
	my ($self) = @_;
	my ($from, $to) = ($self->{base} - 70 * DAY, $self->{base} + 2 * DAY);
	return map {
		my ($by, $day, $aggregation) = @$_;
		{ from => $from, to => $to, whole => 1, by => $by, day => $day, aggregation => $aggregation, compare => 1, hold => 0 }
	} map { my $by = $_; map { [ $by, 0, $_ ], [ $by, 1, $_ ] } qw(sum count last) } [], ['user'], [ 'user', 'model', 'region' ];
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
