# The rollups against plain SQL over the events: cells and deltas of one snapshot add up to the
# events of that snapshot.
package Differential::Cells;
use strict;
use warnings;
use Differential::Question;

# What is kept, by name: the table, the grain, and whose.
my %KEPT = (
	'months of users' => [ 'rollup', 'm', 'month', 1 ],
	'days of users' => [ 'rollup', 'd', 'day', 1 ],
	'months' => [ 'rollup_total', 'm', 'month', 0 ],
	'days' => [ 'rollup_total', 'd', 'day', 0 ]);

# Microseconds between two timestamps.
sub micros { return "extract(epoch FROM $_[0] - $_[1])::numeric * 1000000" }

# The statement that compares the cells of one kind; its result is like that of a question.
sub check
{
	my ($number, $random) = @_;
	my ($table, $grain, $unit, $by_user) = @{ $KEPT{ $random->pick(sort keys %KEPT) } };
	my $user = $by_user ? 'user_id' : 'NULL::text';
	# Users have cells of days only where it pays.
	my $covered = $by_user && $grain eq 'd'
	  ? " WHERE EXISTS (SELECT FROM meter.rollup_days AS c WHERE (c.meter_id, c.user_id) = (x.meter_id, x.user_id) AND c.month = date_trunc('month', start, 'UTC') AND c.days_from <= start)"
	  : '';
	# What is left out counts on neither side: cells from before it was left out have it still.
	my $named = "(SELECT CASE WHEN '' = ANY (l) THEN COALESCE((SELECT jsonb_object_agg(key, value) FROM jsonb_each(e.dimensions) WHERE key = ANY (k)), '{}') ELSE e.dimensions - l END"
	  . " FROM (SELECT COALESCE(max(left_out), '{}') AS l, COALESCE(max(kept), '{}') AS k FROM meter.rollup_meter AS r WHERE r.meter_id = e.meter_id) AS r) AS dimensions";
	my $start = sub { "date_trunc('$unit', $_[0], 'UTC')" };
	my $hour = "date_trunc('hour', first_timestamp, 'UTC')";
	my $pending_start = $start->('first_timestamp');
	my $event_start = $start->('"timestamp"');
	my $columns = 'meter_id, u, start, d::text, n, trim_scale(s)::text AS s, trim_scale(t)::text AS t, g, dirty,'
	  . join(',', map { " CASE WHEN NOT dirty THEN $_ END" } 'trim_scale(low)::text', 'trim_scale(high)::text', 'first', 'last', 'id', 'trim_scale(v)::text');
	my $ours = "SELECT $columns FROM (SELECT meter_id, u, start, dimensions AS d, sum(event_count)::bigint AS n, sum(value_sum) AS s, sum(value_time) AS t,"
	  . ' meter.sum_digests(event_digest)::text AS g, bool_or(dirty) AS dirty,'
	  . ' min(value_min) AS low, max(value_max) AS high, min(first_timestamp) AS first, max(last_timestamp) AS last,'
	  . ' (array_agg(last_id ORDER BY last_timestamp DESC, last_id DESC))[1] AS id, (array_agg(last_value ORDER BY last_timestamp DESC, last_id DESC))[1] AS v'
	  . " FROM (SELECT meter_id, $user AS u, user_id, start, $named, event_count, event_digest, dirty, value_sum, value_time, value_min, value_max, first_timestamp, last_timestamp, last_id, last_value"
	  . " FROM " . ($by_user ? "meter.$table AS e" : "(SELECT *, NULL::text AS user_id FROM meter.$table) AS e") . " WHERE grain = '$grain'"
	  . " UNION ALL SELECT meter_id, $user, user_id, $pending_start, $named, event_count, COALESCE(event_digest, meter.event_digest(last_id, first_timestamp, value_sum, dimensions)), dirty IS TRUE OR voided IS TRUE, value_sum,"
	  . ' COALESCE(value_time, value_sum * ' . micros('first_timestamp', $hour) . ') + value_sum * ' . micros($hour, $pending_start)
	  . ', COALESCE(value_min, value_sum), COALESCE(value_max, value_sum), first_timestamp, COALESCE(last_timestamp, first_timestamp), last_id, COALESCE(last_value, value_sum)'
	  . " FROM meter.rollup_pending AS e) AS x$covered GROUP BY meter_id, u, start, dimensions HAVING sum(event_count) <> 0 OR sum(value_sum) <> 0) AS y";
	# What a cell does not claim to know is not compared.
	my $plain = "plain AS (SELECT $columns FROM (SELECT y.*, COALESCE(o.dirty, false) AS dirty FROM (SELECT meter_id, u, start, dimensions AS d, count(*) AS n, meter.sum_digests(g)::text AS g, sum(value) AS s, sum(value * "
	  . micros('"timestamp"', 'start') . ') AS t, min(value) AS low, max(value) AS high, min("timestamp") AS first, max("timestamp") AS last,'
	  . ' (array_agg(id ORDER BY "timestamp" DESC, id DESC))[1] AS id, (array_agg(value ORDER BY "timestamp" DESC, id DESC))[1] AS v'
	  . " FROM (SELECT meter_id, $user AS u, user_id, $event_start AS start, $named, value, \"timestamp\", id, meter.event_digest(id, \"timestamp\", value, dimensions) AS g FROM live AS e) AS x$covered"
	  . ' GROUP BY meter_id, u, start, dimensions) AS y LEFT JOIN ours AS o ON (o.meter_id, o.start, o.d) = (y.meter_id, y.start, y.d::text) AND o.u IS NOT DISTINCT FROM y.u) AS z)';
	return Differential::Question::compared($number, $ours, $plain);
}

1;
