# Random questions to meter.usage and meter.usage_report, each with its answer by plain SQL over the
# events: one statement asks both, under one snapshot, and tells in what they differ.
package Differential::Question;
use strict;
use warnings;
use Differential::Events;
use Differential::Time qw(instant literal month_start hot_instants HOUR DAY);

our @ZONES = qw(UTC UTC Asia/Kolkata Asia/Kathmandu America/New_York Australia/Lord_Howe Pacific/Apia America/Sao_Paulo);

# Intervals shorter than every bucket of the name, and how long a period may be filled with them.
my %STEP = (minute => '1 minute', hour => '15 minutes', day => '6 hours', week => '1 day', month => '10 days', year => '100 days');
my %FILLED = (minute => 3 * HOUR, hour => 3 * DAY, day => 60 * DAY, week => 400 * DAY, month => 2_000 * DAY, year => 20_000 * DAY);

# `changes`: by zone, the instants at which its offset changes. `times`: those of events.
sub new
{
	my ($class, $random, $now, $changes, $times) = @_;
	return bless { random => $random, now => $now, changes => $changes, times => $times, hot => [ hot_instants($now) ] }, $class;
}

sub quoted { return Differential::Events::quoted($_[0]) }

# One end of a period.
sub bound
{
	my ($self) = @_;
	my $random = $self->{random};
	my $time = $random->chance(35) ? $random->pick(@{ $self->{times} }) : $random->chance(50) ? $random->pick(@{ $self->{hot} })
	  : $random->chance(50) ? instant('2024-09-25 00:00') + $random->large(70 * DAY) : $self->{now} - $random->large(50 * DAY);
	$time -= $time % $random->pick(60_000_000, 30 * 60_000_000, HOUR, HOUR, DAY, DAY) if $random->chance(40);
	return $time + ($random->chance(30) ? $random->pick(-1, 1) : 0);
}

# A period: microseconds since 1970.
sub period
{
	my ($self) = @_;
	my $random = $self->{random};
	my $now = $self->{now};
	my $kind = $random->number(100);
	if ($kind < 10)
	{
		# Whole months.
		my $month = month_start($self->bound, 0);
		return ($month, month_start($month, $random->pick(1, 1, 1, 2, 3, 12)));
	}
	return (month_start($now, 0), $now) if $kind < 13;
	return (month_start($now, -$random->number(3)), $now + $random->large(DAY)) if $kind < 18;
	return (0, $now + 2 * DAY) if $kind < 23;
	my $start = $self->bound;
	return ($start, $start + $random->pick(0, 1, 1)) if $kind < 26;
	return ($start, $start + $random->large($random->pick(3 * HOUR, DAY, 3 * DAY, 10 * DAY))) if $kind < 40;
	if ($kind < 55)
	{
		# Some hours or days with both ends cut alike, maybe by a microsecond.
		return ($start, $start + (1 + $random->number(30)) * $random->pick(HOUR, DAY) + $random->pick(-1, 0, 0, 1));
	}
	my $end = $self->bound;
	return $start < $end ? ($start, $end) : ($end, $start);
}

# A filter as JSON, and as a condition on a column "dimensions".
sub filter
{
	my ($self, @names) = @_;
	my $random = $self->{random};
	my (@members, @conditions);
	for my $name ($random->some(@names))
	{
		next if $random->chance(40);
		my @known = $Differential::Events::VALUES{$name} ? @{ $Differential::Events::VALUES{$name} } : map { $random->number(1_000_000) } 1 .. 3;
		my @wanted = map { $random->pick(@known, @known, @known[0, 0, 0], '"never"') } 1 .. $random->pick(0, 1, 1, 2, 3, 4);
		my $scalar = @wanted == 1 && $random->chance(70);
		push @members, '"' . $name =~ s/"/\\"/gr . '": ' . ($scalar ? $wanted[0] : '[' . join(', ', @wanted) . ']');
		push @conditions, '(' . join(' OR ', 'false', map {
			$_ eq 'null' ? 'NOT dimensions ? ' . quoted($name) : 'dimensions -> ' . quoted($name) . ' = ' . quoted($_) . '::jsonb' } @wanted) . ')';
	}
	return ('{' . join(', ', @members) . '}', join ' AND ', 'true', @conditions);
}

# Start and end of the bucket that a timestamp "t" lies in: what a clock on the wall of that zone says. A day
# or longer starts at its local midnight, and none of the zones has a clock that falls back from
# midnight or later to the day before. A minute or an hour ends at a change of offset, too.
sub bucket
{
	my ($self, $bucket, $zone, $start, $end) = @_;
	my $local = "date_trunc('$bucket', t AT TIME ZONE '$zone')";
	return ("$local AT TIME ZONE '$zone'", "($local + interval '1 $bucket') AT TIME ZONE '$zone'") if $bucket !~ /minute|hour/;
	my $truncated = "date_trunc('$bucket', t, '$zone')";
	my @changes = map { quoted(literal($_)) . '::timestamptz' } grep { $start - DAY < $_ && $_ < $end + DAY } @{ $self->{changes}{$zone} // [] };
	return ($truncated, "$truncated + interval '1 $bucket'") unless @changes;
	return ('GREATEST(' . join(', ', $truncated, map { "CASE WHEN t >= $_ THEN $_ END" } @changes) . ')',
		'LEAST(' . join(', ', "$truncated + interval '1 $bucket'", map { "CASE WHEN t < $_ THEN $_ END" } @changes) . ')');
}

# The statement. Its result: "Q", the number, how many rows meter.usage gave, and the rows that only
# one of both has: "usage" or "plain", row number, start, end, user, dimensions, value, count.
sub compared
{
	my ($number, $ours, $plain) = @_;
	return "WITH ours AS MATERIALIZED ($ours), $plain SELECT 'Q', $number, (SELECT count(*) FROM ours),"
	  . " (SELECT string_agg(line, '  ') FROM ("
	  . "(SELECT 'usage' || x::text AS line FROM (TABLE ours EXCEPT ALL TABLE plain) AS x ORDER BY 1 LIMIT 8) UNION ALL "
	  . "(SELECT 'plain' || x::text FROM (TABLE plain EXCEPT ALL TABLE ours) AS x ORDER BY 1 LIMIT 8)) AS lines);";
}

# How values add up. `$of` is what a column "p" is, for unique_count, which counts it.
sub aggregate
{
	my ($aggregation) = @_;
	return 'count(*)::numeric' if $aggregation eq 'count';
	return 'count(DISTINCT p)::numeric' if $aggregation eq 'unique_count';
	return 'trim_scale((array_agg(value ORDER BY t DESC, id DESC))[1])' if $aggregation eq 'last';
	return 'trim_scale((array_agg(value ORDER BY t, id))[1])' if $aggregation eq 'first';
	# Not avg(), whose digits depend on the trailing zeros of the sum that it makes.
	return 'trim_scale(trim_scale(sum(value)) / count(*))' if $aggregation eq 'avg';
	return "trim_scale($aggregation(value))";
}

# A value rounded.
sub rounded
{
	my ($value, $rounding, $precision) = @_;
	return $value if ($rounding // 'none') eq 'none';
	return "trim_scale(round($value, $precision))" if $rounding eq 'round';
	return "trim_scale($rounding($value * 1e$precision) * 1e" . -$precision . ')';
}

# What unique_count counts of an event: SQL that is null where it is missing.
sub property
{
	my ($property) = @_;
	return 'NULL::jsonb' unless defined $property;
	return 'to_jsonb(user_id)' if $property eq 'user_id';
	return "NULLIF(metadata -> 'tag', 'null')" if $property eq 'metadata.tag';
	return "metadata -> 'never'" if $property eq 'metadata.never';
	return 'dimensions -> ' . quoted($property);
}

# Microseconds from a timestamp to another, exactly.
sub micros { my ($from, $to) = @_; return "(extract(epoch FROM $to) - extract(epoch FROM $from)) * 1000000" }

# A question to meter.usage.
sub usage
{
	my ($self, $number) = @_;
	my $random = $self->{random};
	my $meter = $random->pick(@Differential::Events::METERS, 'tokens', 'level');
	my %meter = %{ $Differential::Events::METERS{$meter} };
	my @names = @{ $meter{names} };
	my ($start, $end) = $self->period;
	my $user = $random->chance(35) ? $random->pick(('ann') x 20, (@Differential::Events::USERS[ 1 .. 6 ]) x 8, @Differential::Events::USERS, 'nobody') : undef;
	my @group_by = $random->chance(50) ? () : grep { $_ ne 'request' || $random->chance(20) } $random->some(@names, 'user_id');
	my ($filter, $condition) = $random->chance(60) ? ('{}', 'true') : $self->filter(@names);
	my $bucket = $random->chance(35) ? undef : $random->pick(qw(minute hour hour day day day week month month year));
	my $zone = $random->pick(@ZONES);
	my $aggregation = $random->chance(30) ? undef : $random->pick(qw(sum count last min max avg), (qw(first unique_count weighted_sum)) x 2);
	my $how = $aggregation // $meter{aggregation};
	my $short = $bucket && $end - $start <= $FILLED{$bucket};
	my $fill = $short && $random->chance(25);
	# Levels make a row for every bucket, whether something was used in it or not.
	$bucket = undef if $how eq 'weighted_sum' && !$short;
	my $property = $how ne 'unique_count' || ($meter{property} && $random->chance(50)) ? undef : $random->pick(@names, @names, 'user_id', 'metadata.tag', 'metadata.never');
	my ($rounding, $precision) = $random->chance(70) ? () : ($random->pick(qw(round round ceil floor none)), $random->pick(0, 2, 5, 18, -1, -3, -30));
	$precision = undef if ($rounding // '') eq 'none';
	my ($from, $to) = map { quoted(literal($_)) . '::timestamptz' } $start, $end;

	my $ours = sprintf 'SELECT ordinality, bucket_start, bucket_end, user_id, dimensions::text, value::text, event_count'
	  . ' FROM meter.usage(%s, %s, %s, %s, ARRAY[%s]::text[], %s, %s, %s, %s, %s, %s, %s, %s) WITH ORDINALITY',
	  quoted($meter), $from, $to, quoted($user), join(', ', map { quoted($_) } @group_by), quoted($filter), quoted($bucket),
	  $bucket ? quoted($zone) : 'NULL', quoted($aggregation), $fill ? 'true' : 'false', quoted($property), quoted($rounding), $precision // 'NULL';

	my @bounds = $bucket ? $self->bucket($bucket, $zone, $start, $end) : ($from, $to);
	my $asked = defined $user ? quoted($user) : 'NULL';
	my $who = (grep { $_ eq 'user_id' } @group_by) ? 'user_id' : $asked;
	my @dimensions = grep { $_ ne 'user_id' } @group_by;
	my $shown = @dimensions ? 'jsonb_build_object(' . join(', ', map { quoted($_) . ', dimensions -> ' . quoted($_) } @dimensions) . ')' : "'{}'::jsonb";
	my $zero = $how =~ /^(?:sum|count|unique_count)$/ ? '0' : 'NULL::numeric';
	my $of = property($property // $meter{property});
	my $since = $how eq 'weighted_sum' ? '' : " AND \"timestamp\" >= $from";
	my $plain = "source AS (SELECT \"timestamp\" AS t, id, user_id, value, dimensions, $of AS p FROM live"
	  . " WHERE meter_id = (SELECT id FROM meter.meter WHERE org = 'default' AND event_name = " . quoted($meter) . ')'
	  . "$since AND \"timestamp\" < $to AND $condition" . (defined $user ? ' AND user_id = ' . quoted($user) : '') . '), '
	  . "grouped AS (SELECT s, e, u, d, " . ($how eq 'weighted_sum' ? "0 AS v" : aggregate($how) . ' AS v') . ", count(*) AS n FROM (SELECT $bounds[0] AS s, $bounds[1] AS e, $who"
	  . "::text COLLATE \"C\" AS u, $shown AS d, value, t, id, p FROM source" . ($how eq 'weighted_sum' ? " WHERE t >= $from" : '') . ') AS x GROUP BY s, e, u, d)';
	my $buckets = "SELECT DISTINCT $bounds[0] AS s, $bounds[1] AS e FROM (SELECT generate_series($from, $to - interval '1 microsecond', '" . ($STEP{ $bucket // '' } // '') . "') AS t"
	  . " UNION ALL SELECT $to - interval '1 microsecond' WHERE $from < $to) AS i";
	$buckets = "SELECT $from AS s, $to AS e" unless $bucket;
	my $rows = 'grouped';
	if ($how eq 'weighted_sum')
	{
		# Each group and bucket with what was before and in it, whether there is anything or not.
		my $groups = @group_by ? "SELECT DISTINCT $who\::text COLLATE \"C\" AS u, $shown AS d FROM source" : "SELECT $asked\::text COLLATE \"C\" AS u, '{}'::jsonb AS d";
		my $length = micros('a', 'z');
		$rows = "(SELECT s, e, u, d, trim_scale(round(COALESCE(sum(value * " . micros('GREATEST(t, a)', 'z') . "), 0), 20) / NULLIF($length, 0)) AS v,"
		  . " count(t) FILTER (WHERE t >= a) AS n, COALESCE(sum(value) FILTER (WHERE t < a), 0) AS balance"
		  . " FROM (SELECT *, GREATEST(s, $from) AS a, LEAST(e, $to) AS z FROM ($buckets) AS b CROSS JOIN ($groups) AS g) AS h"
		  . " LEFT JOIN (SELECT t, value, $who\::text COLLATE \"C\" AS of_u, $shown AS of_d FROM source) AS x ON of_u IS NOT DISTINCT FROM u AND of_d = d AND t < z"
		  . ' GROUP BY s, e, u, d, a, z) AS weighted';
		my $single = !$bucket && !@group_by;
		# With fill, the groups that there are in some bucket.
		my $kept = $fill ? (@group_by ? 'EXISTS (SELECT FROM levels AS o WHERE o.d = levels.d AND o.u IS NOT DISTINCT FROM levels.u AND (o.n > 0 OR o.balance <> 0))' : 'true') : 'n > 0 OR balance <> 0';
		$plain .= ", levels AS (SELECT * FROM $rows)";
		$rows = '(SELECT * FROM levels WHERE ' . ($single ? 'true' : $from eq $to ? 'false' : $kept) . ') AS kept';
	}
	elsif (!$bucket && !@group_by)
	{
		$rows = "(TABLE grouped UNION ALL SELECT $from, $to, $asked, '{}', $zero, 0 WHERE NOT EXISTS (SELECT FROM grouped)) AS one";
	}
	elsif ($fill)
	{
		my $groups = @group_by ? 'SELECT DISTINCT u, d FROM grouped' : "SELECT $asked\::text AS u, '{}'::jsonb AS d";
		$rows = "(SELECT s, e, u, d, COALESCE(v, $zero) AS v, COALESCE(n, 0) AS n FROM"
		  . " ($buckets) AS b CROSS JOIN ($groups) AS g"
		  . ' LEFT JOIN (SELECT s AS of_s, u AS of_u, d AS of_d, v, n FROM grouped) AS o'
		  . ' ON of_s = s AND of_u IS NOT DISTINCT FROM u AND of_d = d) AS filled';
	}
	# A meter's rounding is for its own aggregation.
	my %own = $how eq $meter{aggregation} ? %meter : ();
	my $value = rounded('v', $rounding // $own{rounding}, $precision // $own{precision} // 0);
	$plain .= ", plain AS (SELECT row_number() OVER (ORDER BY s, u COLLATE \"C\", d), s, e, u, d::text, ($value)::text, n FROM $rows)";
	return compared($number, $ours, $plain);
}

# A question to meter.usage_report.
sub report
{
	my ($self, $number) = @_;
	my $random = $self->{random};
	my ($from, $to) = map { quoted(literal($_)) . '::timestamptz' } $self->period;
	my $user = $random->chance(40) ? $random->pick('ann', @Differential::Events::USERS, 'nobody') : undef;
	my $ours = "SELECT ordinality, event_name, user_id, value::text, event_count FROM meter.usage_report($from, $to, " . quoted($user) . ') WITH ORDINALITY';
	my %of = map { $_ => $Differential::Events::METERS{$_} } @Differential::Events::METERS;
	my $plain = 'grouped AS (SELECT event_name, user_id, CASE aggregation'
	  . join('', map { " WHEN '$_' THEN " . aggregate($_) } qw(sum count last first unique_count))
	  . " WHEN 'weighted_sum' THEN trim_scale(round(sum(value * " . micros("GREATEST(t, $from)", $to) . '), 20) / NULLIF(' . micros($from, $to) . ', 0)) END AS v,'
	  . " count(*) FILTER (WHERE t >= $from) AS n, COALESCE(sum(value) FILTER (WHERE t < $from), 0) AS balance"
	  . ' FROM (SELECT event_name, aggregation, e.id, "timestamp" AS t, user_id, value, CASE event_name'
	  . join('', map { ' WHEN ' . quoted($_) . ' THEN ' . property($of{$_}{property}) =~ s/dimensions/e.dimensions/r } grep { $of{$_}{property} } sort keys %of) . ' END AS p'
	  . ' FROM live AS e JOIN meter.meter AS m ON m.id = e.meter_id'
	  . " WHERE org = 'default' AND (\"timestamp\" >= $from OR aggregation = 'weighted_sum' AND $from < $to) AND \"timestamp\" < $to" . (defined $user ? ' AND user_id = ' . quoted($user) : '')
	  . ') AS x GROUP BY event_name, aggregation, user_id), plain AS (SELECT row_number() OVER (ORDER BY event_name, user_id), event_name, user_id, (CASE event_name'
	  . join('', map { ' WHEN ' . quoted($_) . ' THEN ' . rounded('v', $of{$_}{rounding}, $of{$_}{precision}) } grep { $of{$_}{rounding} } sort keys %of)
	  . ' ELSE v END)::text, n FROM grouped WHERE n > 0 OR balance <> 0)';
	return compared($number, $ours, $plain);
}

# Either.
sub ask
{
	my ($self, $number) = @_;
	return $self->{random}->chance(6) ? $self->report($number) : $self->usage($number);
}

1;
