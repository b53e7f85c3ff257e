# slow: it writes many deltas.
# A fold of several chunks: more deltas than are added up at a time. Exact, and in the memory of one chunk.
use strict;
use warnings;
use FindBin;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use lib "$FindBin::RealBin/../perl";
use Meter::Memory qw(peak_of_session);

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "shared_buffers = 256MB\nmax_wal_size = 2GB\nautovacuum = off\nfsync = off\ntimezone = 'UTC'\n");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
SELECT meter.create_meter('tokens', dimensions => '{model}');
-- Each user and hour has one event, and a delta.
CREATE PROCEDURE load(first_hour int, last_hour int) LANGUAGE sql AS $$
SELECT count(*) FROM generate_series(first_hour, last_hour) AS hour, LATERAL (
    SELECT array_agg('tokens'::text) AS names, array_agg('user-' || u) AS users, array_agg(((u * 31 + hour) % 97)::numeric + 0.25) AS quantities,
        array_agg(jsonb_build_object('model', 'm' || u % 7)) AS dimensions, array_agg(hour || ' ' || u) AS keys,
        array_agg('2026-01-20T00:10:00Z'::timestamptz + hour * interval '1 hour' + u * interval '1 second') AS times
    FROM generate_series(1, 1000) AS u) AS b,
    meter.record_events(names, users, quantities, dimensions, keys, times)
$$;
SQL

# Folds all deltas in a session of its own; how many, and by how many kB the session's own memory has grown at the most.
my $peak = peak_of_session();
sub fold
{
	my ($before, $folded, $after) = split /\n/, $node->safe_psql('postgres', "SELECT $peak;\nSELECT meter.fold();\nSELECT $peak;");
	return ($folded, $after - $before);
}

$node->safe_psql('postgres', 'CALL load(1, 90)');
my ($folded, $kilobytes) = fold();
is($folded, 90_000, 'a chunk of deltas is folded');
$node->safe_psql('postgres', 'CALL load(91, 300)');
my ($more_folded, $more_kilobytes) = fold();
is($more_folded, 210_000, 'and three at once');
note("$kilobytes kB, and $more_kilobytes kB");
cmp_ok($more_kilobytes, '<', 1.5 * $kilobytes, 'in the memory that one takes');
is($node->safe_psql('postgres', 'SELECT count(*) FROM meter.rollup_pending'), 0, 'no delta is left');

for my $period ([ '2026-01-20', '2026-02-05' ], [ '2026-01-21T07:00:00', '2026-01-27T00:12:34' ])
{
	my ($from, $to) = @$period;
	is( $node->safe_psql('postgres', "SELECT bucket_start, dimensions ->> 'model', value FROM meter.usage('tokens', '$from', '$to', bucket => 'day', group_by => '{model}') ORDER BY 1, 2"),
		$node->safe_psql('postgres', "SELECT date_trunc('day', timestamp), dimensions ->> 'model', trim_scale(sum(value)) FROM meter.meter_event WHERE timestamp >= '$from' AND timestamp < '$to' GROUP BY 1, 2 ORDER BY 1, 2"),
		"usage by day and model is what the events add up to, $from");
}
is($node->safe_psql('postgres', "SELECT count(*) FROM meter.verify('2026-01-01', '2026-03-01')"), 0, 'no cell differs from the events');
$node->stop;
done_testing();
