# What the clients of a history say to the server: the statements that record events, and the same
# question put to meter.usage, to the events, and to the rollups.
package Meter::History::Statements;

use strict;
use warnings;
use Exporter 'import';
use POSIX ();

our @EXPORT_OK = qw(statements usage_query plain_query rollup_query time_text);

# The statements that record an operation's events, in their order: each returns rows of an id and a
# status. Of a transaction they begin it, and leave it open.
sub statements
{
	my ($operation) = @_;
	my ($way, @events) = ($operation->{way}, @{ $operation->{events} });
	return _batch('meter.ingest', @events) if $way eq 'ingest';
	return _batch('meter.record_events', @events) if $way eq 'records';
	return _single(@events) if $way eq 'single';
	# Of a transaction's events the first few by themselves.
	my @pauses = @{ $operation->{pauses} // [] };
	my @statements = ("BEGIN ISOLATION LEVEL " . ($operation->{isolation} // 'READ COMMITTED'));
	my @recording = map { _single($_) } splice @events, 0, 3;
	push @recording, _batch('meter.record_events', @events) if @events;
	for my $statement (@recording)
	{
		# Above READ COMMITTED what is recorded in the first pause is committed after the snapshot.
		my $pause = shift @pauses;
		push @statements, "DO 'BEGIN PERFORM pg_catalog.pg_sleep($pause); END'" if $pause;
		push @statements, $statement;
	}
	return @statements;
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
