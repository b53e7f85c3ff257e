# Random numbers that depend on a seed alone: other modules draw from Perl's own rand(), too.
package Differential::Random;
use strict;
use warnings;

use constant MASK => (1 << 48) - 1;

# A generator; generators with one seed and different streams have nothing to do with each other.
sub new
{
	my ($class, $seed, $stream) = @_;
	my $self = bless { state => ($seed * 1_000 + $stream) & MASK }, $class;
	$self->number(2) for 1 .. 10;
	return $self;
}

# An integer from 0 to $n - 1, $n at most 2^31: the upper bits of a linear congruential generator
# modulo 2^48.
sub number
{
	my ($self, $n) = @_;
	use integer;
	$self->{state} = ($self->{state} * 25_214_903_917 + 11) & MASK;
	return ($self->{state} >> 16) % $n;
}

# An integer from 0 to $n - 1, of any size that an integer has.
sub large
{
	my ($self, $n) = @_;
	return (($self->number(1 << 30) << 30) + $self->number(1 << 30)) % $n;
}

# Whether something with a chance of $percent happens.
sub chance { my ($self, $percent) = @_; return $self->number(1000) < $percent * 10 }

# One of the arguments.
sub pick { my $self = shift; return $_[ $self->number(scalar @_) ] }

# Each of the arguments with a chance of one half, in random order.
sub some
{
	my $self = shift;
	my @chosen = grep { $self->number(2) } @_;
	for my $i (reverse 1 .. $#chosen)
	{
		my $j = $self->number($i + 1);
		@chosen[ $i, $j ] = @chosen[ $j, $i ];
	}
	return @chosen;
}

1;
