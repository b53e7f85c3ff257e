# The history: what clients of a server asked for and were told, in one file that all of them append to.
#
# A client writes a record before it sends a request and another one after it has read the answer,
# each by one append. So the order of the records is an order in time: where the answer to one
# request stands before another request, the one had ended before the other began. No clock is used.
package Meter::History::Log;

use strict;
use warnings;
use Storable ();

# A log at `path`, which is made where it is not there; each process opens its own.
sub new
{
	my ($class, $path) = @_;
	open(my $out, '>>:raw', $path) or die "$path: $!";
	open(my $in, '<:raw', $path) or die "$path: $!";
	return bless { path => $path, out => $out, in => $in, unread => '' }, $class;
}

# Appends a record: its type, then names and values. The values may hold arrays and hashes.
sub append
{
	my ($self, $type, %fields) = @_;
	my $record = pack('N/a*', Storable::nfreeze({ type => $type, %fields }));
	# One call, or records of two processes could be mixed.
	my $written = syswrite($self->{out}, $record);
	die "$self->{path}: " . ($! || 'written in part') unless defined $written && $written == length $record;
	return;
}

# The records that were appended, by whomever, since the last call.
sub read_new
{
	my ($self) = @_;
	while (1)
	{
		my $got = sysread($self->{in}, $self->{unread}, 1 << 20, length $self->{unread});
		die "$self->{path}: $!" unless defined $got;
		last if $got == 0;
	}
	my @records;
	my $at = 0;
	while (length($self->{unread}) >= $at + 4)
	{
		my $length = unpack('N', substr($self->{unread}, $at, 4));
		last if length($self->{unread}) < $at + 4 + $length;
		push @records, Storable::thaw(substr($self->{unread}, $at + 4, $length));
		$at += 4 + $length;
	}
	substr($self->{unread}, 0, $at, '');
	return @records;
}

1;
