# Random events, and random transactions that record them.
package Differential::Events;
use strict;
use warnings;
use utf8;
use Differential::Time qw(instant literal month_start hot_instants HOUR DAY);

# The meters: aggregation, declared dimensions, and the names that events and questions draw from.
our %METERS = (
	tokens => { aggregation => 'sum', dimensions => [qw(model region n)], names => [qw(model region n)] },
	seconds => { aggregation => 'sum', dimensions => [], names => [qw(model region n request), 'a "b'] },
	calls => { aggregation => 'count', dimensions => [], names => [qw(model n zone)] },
	gauge => { aggregation => 'last', dimensions => [qw(model)], names => [qw(model)] },
	plain => { aggregation => 'sum', dimensions => [], names => [] },
	level => { aggregation => 'weighted_sum', dimensions => [], names => [qw(model n)] },
	people => { aggregation => 'unique_count', property => 'request', rounding => 'ceil', precision => -1, dimensions => [], names => [qw(model request)] },
	starts => { aggregation => 'first', rounding => 'round', precision => 2, dimensions => [qw(model)], names => [qw(model)] },
	archived => { aggregation => 'last', dimensions => [], names => [qw(region n)] });
our @METERS = sort keys %METERS;

# Dimensions, as JSON: alike and not the same, the same and not alike.
our %VALUES = (
	model => [ '"gpt-4"', '"gpt-4"', '"gpt-3"', '""', 'true', '"true"', 'null', '"caf\u00e9"' ],
	region => [ '"us"', '"us"', '"eu"', 'null' ],
	n => [ '1', '"1"', '1.0', '1.5', '1.50', '1e0', '-0.0', '0', '1e20', '0.000000000000000001', 'null', 'false' ],
	zone => [ '"a"', '"A"', '"b"', '"ä"' ],
	'a "b' => [ '"x\"y"', '"x\\\\y"', '"\'"', 'null' ]);

# Metadata, as JSON.
our @METADATA = ('{}', '{}', '{"tag": 1}', '{"tag": 1.0}', '{"tag": "1"}', '{"tag": null}', '{"tag": ["a", 1]}', '{"tag": {"b": 2, "a": 1}}', '{"tag": {"a": 1, "b": 2.0}, "x": 1}');

our @USERS = ('ann', 'bob', 'Ann', 'ünal', "o'brien", '{user_id}', 'null', map { "user-$_" } 1 .. 60);

# What is to come of one stream of random numbers, for the meters named last. `prefix` keeps the
# keys of streams apart.
sub new
{
	my ($class, $random, $now, $prefix, @meters) = @_;
	return bless { random => $random, now => $now, prefix => $prefix, meters => \@meters, keys => 0, hot => [ hot_instants($now) ], times => [ $now ], keyed => [] }, $class;
}

sub user
{
	my ($self) = @_;
	my $random = $self->{random};
	return $USERS[0] if $random->chance(45);
	return $USERS[ 1 + $random->number(6) ] if $random->chance(60);
	return $random->pick(@USERS);
}

# A timestamp. Most lie in a few weeks, so that some users' usage is dense.
sub timestamp
{
	my ($self) = @_;
	my $random = $self->{random};
	my $now = $self->{now};
	my $time;
	if ($random->chance(25))
	{
		$time = instant('2024-10-01 00:00') + $random->large($random->pick(3 * DAY, 14 * DAY, 60 * DAY));
	}
	elsif ($random->chance(30))
	{
		$time = $random->pick(@{ $self->{hot} }) + ($random->number(9) - 4) * 15 * 60_000_000 * $random->pick(0, 0, 1) + $random->pick(-1, 0, 0, 1);
	}
	elsif ($random->chance(20))
	{
		$time = $random->pick(@{ $self->{times} }) + $random->pick(-1, 0, 0, 0, 1);
	}
	elsif ($random->chance(30))
	{
		$time = $now - $random->large(45 * DAY);
	}
	elsif ($random->chance(60))
	{
		$time = $now - $random->large(3 * HOUR);
	}
	elsif ($random->chance(30))
	{
		$time = $now + $random->large(23 * HOUR);
	}
	else
	{
		$time = instant('2023-12-25 00:00') + $random->large(366 * DAY);
	}
	$time -= $time % $random->pick(1_000, 1_000_000, 60_000_000, HOUR) if $random->chance(50);
	$time = 0 if $time < 0; # the earliest that is recorded
	push @{ $self->{times} }, $time;
	shift @{ $self->{times} } if @{ $self->{times} } > 200;
	return $time;
}

# A value, below 10^30 and with at most 18 decimals.
sub value
{
	my ($self) = @_;
	my $random = $self->{random};
	return 1 if $random->chance(30);
	return $random->number(100_000) if $random->chance(40);
	return ($random->chance(30) ? '-' : '') . $random->number(1_000) . '.' . sprintf('%0*d', 1 + $random->number(6), $random->number(10)) if $random->chance(40);
	return $random->number(10) . '.' . sprintf('%09d%09d', $random->number(1_000_000_000), $random->number(1_000_000_000)) if $random->chance(30);
	return $random->pick(0, '-0.0', -1, '0.1', '0.10', '-2.5', '1e29', '-1e29', '123456789012345678901234567890', '1e-18', '-1e-18', '0.333333333333333333',
		'999999999999999999999999999999.999999999999999999', '-999999999999999999999999999999.999999999999999999', '9223372036854775807', '-9223372036854775808',
		'100000000000000000000', '10000', '0.0001', '99999999.99999999');
}

# Dimensions of a meter, a JSON object.
sub dimensions
{
	my ($self, $meter) = @_;
	my $random = $self->{random};
	my @members;
	for my $name ($random->some(@{ $METERS{$meter}{names} }))
	{
		my $value = $VALUES{$name} ? $random->pick(@{ $VALUES{$name} }) : $random->number(1_000_000);
		push @members, '"' . $name =~ s/"/\\"/gr . "\": $value";
	}
	return '{' . join(', ', @members) . '}';
}

# One event, maybe with a key, maybe a duplicate of one before.
sub event
{
	my ($self) = @_;
	my $random = $self->{random};
	if (@{ $self->{keyed} } && $random->chance(10))
	{
		my %again = %{ $random->pick(@{ $self->{keyed} }) };
		$again{time} = $self->timestamp if $random->chance(50);
		$again{value} = 4711 if $random->chance(5);    # in conflict
		return \%again;
	}
	my $meter = $random->pick(@{ $self->{meters} }, 'tokens', 'tokens', 'seconds', 'plain', 'plain');
	my %event = (meter => $meter, user => $self->user, value => $self->value, time => $self->timestamp, dimensions => $self->dimensions($meter),
		metadata => $random->pick(@METADATA));
	if ($random->chance(40))
	{
		$event{key} = $self->{prefix} . ++$self->{keys};
		push @{ $self->{keyed} }, {%event};
	}
	return \%event;
}

sub quoted { return defined $_[0] ? "'" . $_[0] =~ s/'/''/gr . "'" : 'NULL' }

# The statement that records one event.
sub single
{
	my ($event) = @_;
	return sprintf 'SELECT meter.record_event(%s, %s, %s, %s, %s, %s, %s);', quoted($event->{meter}), quoted($event->{user}), $event->{value},
	  quoted($event->{dimensions}), quoted($event->{key}), quoted(literal($event->{time})), quoted($event->{metadata} // '{}');
}

sub json
{
	my ($event) = @_;
	return sprintf '{"event_name": "%s", "user_id": "%s", "value": %s, "dimensions": %s, "metadata": %s, %s"timestamp": "%s"}', $event->{meter}, $event->{user}, $event->{value},
	  $event->{dimensions}, $event->{metadata} // '{}', defined $event->{key} ? qq("idempotency": "$event->{key}", ) : '', literal($event->{time}) =~ s/ /T/r;
}

# The statement that records several.
sub batch
{
	my ($self, @events) = @_;
	my $random = $self->{random};
	my $result = "SELECT status, count(*) FROM %s WHERE status NOT IN ('recorded', 'duplicate', 'conflict') GROUP BY 1;";
	return sprintf $result, 'meter.record_events(' . quoted('[' . join(', ', map { json($_) } @events) . ']') . ')' if $random->chance(40);
	return sprintf $result, 'meter.ingest(' . quoted('[' . join(', ', map { json($_) } @events) . ']') . ')' if $random->chance(30);
	my $array = sub {
		my ($type, $value) = @_;
		return 'ARRAY[' . join(', ', map { $value->($_) } @events) . "]::$type\[]";
	};
	return sprintf $result, 'meter.record_events(' . join(', ',
		$array->('text', sub { quoted($_[0]{meter}) }), $array->('text', sub { quoted($_[0]{user}) }), $array->('numeric', sub { $_[0]{value} }),
		$array->('jsonb', sub { quoted($_[0]{dimensions}) }), $array->('text', sub { quoted($_[0]{key}) }),
		$array->('timestamptz', sub { quoted(literal($_[0]{time})) }), $array->('jsonb', sub { quoted($_[0]{metadata} // '{}') })) . ')';
}

# The statement that voids or amends some events, of those that count just then: the next after some
# instant, or those of a user that minimum, maximum or last may be of.
sub correction
{
	my ($self, $most) = @_;
	my $random = $self->{random};
	my $where = 'e."timestamp" >= ' . quoted(literal($random->chance(50) ? $self->timestamp : $random->pick(@{ $self->{times} }))) . ' ORDER BY e."timestamp", e.id';
	$where = 'e.user_id = ' . quoted($self->user) . ' AND m.event_name = ' . quoted($random->pick(@METERS)) . ' ORDER BY ' . $random->pick('e.value', 'e.value DESC', 'e."timestamp"', 'e."timestamp" DESC') . ', e.id'
	  if $random->chance(50);
	my $some = 'FROM (SELECT m.event_name, e.* FROM live AS e JOIN meter.meter AS m ON m.id = e.meter_id WHERE m.org = ' . "'default' AND %s$where LIMIT " . (1 + $random->number($most)) . ') AS x';
	return 'SELECT count(meter.void_event(event_name, user_id, id, "timestamp", ' . "'random')) " . sprintf($some, '') . ';' if $random->chance(60);
	my $time = quoted(literal($self->timestamp));
	my @changes = $random->some('value => ' . (1_000_000 + $random->number(1_000_000_000)), $random->chance(50) ? "event_time => $time" : 'value => -' . $random->number(1_000_000_000));
	splice @changes, 1 if @changes > 1 && !(grep { /^event_time/ } @changes);
	@changes = ('value => ' . $random->number(1_000_000_000) . '.5') unless @changes;
	return 'SELECT count(meter.amend_event(event_name, user_id, idempotency, ' . join(', ', @changes) . ", reason => 'random')) " .
	  sprintf($some, qq(e.idempotency IS NOT NULL AND e."timestamp" <> $time AND )) . ';'; # an amendment that changes nothing is an error
}

# One statement that records up to $most events; or ten times as many, of one user with one set of
# dimensions: where usage is dense there are cells for days.
sub statement
{
	my ($self, $most) = @_;
	my $random = $self->{random};
	return $self->burst(10 * $most) if $random->chance(4);
	return $self->correction($most) if $random->chance(12);
	return single($self->event) if $random->chance(50);
	my @events = map { $self->event } 1 .. 1 + $random->number($most);
	if ($random->chance(20))
	{
		# Many of one user, meter and hour.
		my ($user, $time) = ($events[0]{user}, $events[0]{time});
		for my $event (grep { !defined $_->{key} } @events)
		{
			$event->{user} = $user;
			$event->{time} = $time + $random->number(1_000_000);
		}
	}
	return $self->batch(@events);
}

# A statement with many events alike, within some weeks.
sub burst
{
	my ($self, $most) = @_;
	my $random = $self->{random};
	my $meter = $random->pick(@{ $self->{meters} });
	my ($user, $dimensions) = ($random->pick(@USERS[ 0, 0, 1, 2 ]), $random->pick('{}', '{}', $self->dimensions($meter)));
	my $start = $random->pick(instant('2024-10-01 00:00'), instant('2024-10-20 00:00'), instant('2024-11-01 00:00'), month_start($self->{now}, -1), month_start($self->{now}, 0),
		$self->timestamp);
	my $width = $random->pick(2, 10, 31) * DAY;
	$width = $self->{now} - $start if $start + $width > $self->{now};
	$start = $self->{now} - ($width = 3 * DAY) if $width <= 0;
	return $self->batch(map {
		my $time = $start + $random->large($width);
		$time -= $time % HOUR if $random->chance(20);
		{ meter => $meter, user => $user, dimensions => $dimensions, value => $self->value, time => $time, metadata => $random->pick(@METADATA) }
	} 1 .. $most / 2 + $random->number($most / 2));
}

# A statement with events of this month that each have a request of their own: as a dimension, too many
# values for the rollups.
sub crowd
{
	my ($self, $count) = @_;
	my $random = $self->{random};
	my $meter = $random->pick(grep { grep { $_ eq 'request' } @{ $METERS{$_}{names} } } @{ $self->{meters} });
	my $start = month_start($self->{now}, 0);
	return $self->batch(map {
		{ meter => $meter, user => $random->pick(@USERS), dimensions => qq({"request": "crowd-$_"}), value => $self->value,
			time => $start + $random->large($self->{now} - $start), metadata => '{}' }
	} 1 .. $count);
}

# The lines of one transaction. $inside is what else may be done in one: a sub that returns a line,
# given the isolation level.
sub transaction
{
	my ($self, $most, $inside) = @_;
	my $random = $self->{random};
	my $kind = $random->number(100);
	return $self->statement($most) if $kind < 40;
	my $level = $kind < 50 ? 'REPEATABLE READ' : 'READ COMMITTED';
	my @lines = "BEGIN ISOLATION LEVEL $level;";
	# Its snapshot grows old while others go on, and what it then records it has to count.
	push @lines, $inside->($level) if $level eq 'REPEATABLE READ';
	for my $part (1 .. 1 + $random->number(4))
	{
		push @lines, "SAVEPOINT s$part;" if $random->chance(30);
		push @lines, $self->statement($most) for 1 .. 1 + $random->number(2);
		push @lines, $inside->($level) if $random->chance(20);
		# What fails takes its savepoint with it, and not what was recorded before.
		push @lines, 'SAVEPOINT failing;', $self->statement($most), "SELECT meter.record_event('tokens', 'ann', 'NaN');", 'ROLLBACK TO failing;' if $random->chance(8);
		push @lines, $random->pick("ROLLBACK TO s$part;", "RELEASE s$part;") if grep { $_ eq "SAVEPOINT s$part;" } @lines;
		push @lines, $inside->($level) if $random->chance(15);
	}
	push @lines, $inside->($level) if $level eq 'REPEATABLE READ';
	if ($random->chance(8))
	{
		my $name = $self->{prefix} . $random->large(1 << 50);
		return (@lines, "PREPARE TRANSACTION '$name';", (map { $inside->('READ COMMITTED') } 1 .. $random->number(3)), $random->pick('COMMIT', 'COMMIT', 'ROLLBACK') . " PREPARED '$name';");
	}
	return (@lines, $random->pick('COMMIT;', 'COMMIT;', 'COMMIT;', 'ROLLBACK;'));
}

1;
