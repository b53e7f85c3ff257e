# What events add up to for a question: by cell, which is a day, user, model and region as far as the
# question asks for them, an amount and a number of events. Amounts are integers of 10^-18.
package Meter::History::Cells;

use strict;
use warnings;
use Exporter 'import';
use Math::BigInt;

# Not to be changed.
my $nothing = Math::BigInt->bzero;
my $one = Math::BigInt->new('1' . '0' x 18);

our @EXPORT_OK = qw(cell is_modelled weight add_event subtract copy amount decimal);

# The cell that an event belongs to; undef if the question is not about it.
sub cell
{
	my ($question, $event) = @_;
	return undef if $event->{time} < $question->{from} || $event->{time} >= $question->{to};
	return undef if defined $question->{user} && $question->{user} ne $event->{user};
	return undef if defined $question->{model} && $question->{model} ne $event->{model};
	my $grouped = $question->{grouped} //= { map { $_ => 1 } @{ $question->{by} } };
	return join ' ', $question->{day} ? $event->{day} : '~',
	  map { $grouped->{$_} ? $event->{$_} // '~' : '~' } qw(user model region);
}

sub is_modelled { my ($question) = @_; return $question->{aggregation} =~ /^(sum|count)$/; }

# What an event adds to its cell's amount.
sub weight
{
	my ($question, $event) = @_;
	return $event->{amount} if $question->{aggregation} eq 'sum';
	return $question->{aggregation} eq 'count' ? $one : $nothing;
}

sub add_event
{
	my ($cells, $question, $event) = @_;
	my $name = cell($question, $event) // return;
	my $cell = $cells->{$name} //= [ Math::BigInt->bzero, 0 ];
	$cell->[0]->badd(weight($question, $event)) if is_modelled($question);
	$cell->[1]++;
	return;
}

# Takes an amount and a number of events away from a cell; false if there is not so much. Empty cells
# are removed.
sub subtract
{
	my ($cells, $name, $amount, $count) = @_;
	my $cell = $cells->{$name} or return 0;
	$cell->[0]->bsub($amount);
	$cell->[1] -= $count;
	return 0 if $cell->[0]->is_neg || $cell->[1] < 0;
	delete $cells->{$name} if $cell->[0]->is_zero && $cell->[1] == 0;
	return 1;
}

sub copy { my ($cells) = @_; return { map { $_ => [ $cells->{$_}[0]->copy, $cells->{$_}[1] ] } keys %$cells }; }

# A decimal with at most 18 digits after the point as an integer of 10^-18.
sub amount
{
	my ($text) = @_;
	my ($sign, $whole, $fraction) = $text =~ /^(-?)(\d+)(?:\.(\d+))?$/ or die "not a decimal: $text";
	$fraction = ($fraction // '') =~ s/0+$//r;
	die "more than 18 decimals: $text" if length $fraction > 18;
	return Math::BigInt->new($sign . $whole . $fraction . '0' x (18 - length $fraction));
}

# The reverse, to show.
sub decimal
{
	my ($amount) = @_;
	my $digits = $amount->copy->babs->bstr;
	$digits = '0' x (19 - length $digits) . $digits if length $digits < 19;
	my $text = substr($digits, 0, -18) . '.' . substr($digits, -18);
	return ($amount->is_neg ? '-' : '') . $text =~ s/\.?0+$//r;
}

1;
