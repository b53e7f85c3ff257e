# slow: it records a whole trace.
# An hour of a real LLM service: 19,366 requests, each with its input and output tokens, through
# every way of recording many events, twice.
#
# The trace is the conversation part of the Azure LLM inference trace 2023 (CC-BY; Patel et al.,
# "Splitwise: Efficient generative LLM inference using phase splitting", ISCA 2024), a CSV file with
# the columns TIMESTAMP (UTC), ContextTokens and GeneratedTokens. It is not part of this project:
# METER_TRACE names the file, else it is looked for in the folder data of whatever is beside the
# checkout.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $name = 'llm_trace_conv.csv';
my ($trace) = $ENV{METER_TRACE} || glob(($ENV{METER_CHECKOUT} // '.') . "/../*/data/$name");
plan skip_all => "the trace is not part of the project, and was not found: METER_TRACE=/path/to/$name runs this test"
  unless $trace;
open(my $file, '<', $trace) or die "cannot read $trace: $!";

# What the whole trace adds up to.
my ($requests, $input_total, $output_total) = (19_366, 22_361_870, 4_088_665);

# The items as NDJSON, and as an array; the service's time has seven decimals and no zone.
my $directory = PostgreSQL::Test::Utils::tempdir;
my (@items, @rows);
my $header = <$file>;
like($header, qr/^TIMESTAMP,ContextTokens,GeneratedTokens\r?$/, 'the trace has the columns it should');
while (my $line = <$file>)
{
	$line =~ s/\r?\n?$//;
	my ($date, $time, $input, $output) = $line =~ /^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d\.\d{7}),(\d+),(\d+)$/
	  or die "line $. of the trace: $line";
	my $user = 'user-' . $. % 97;
	push @rows, "$date ${time}+00,$user,trace-$.,$input,$output\n";
	push @items, map {
		qq({"event_name": "$_->[0]_tokens", "user_id": "$user", "value": $_->[1], "idempotency": "trace-$.", )
		  . qq("timestamp": "${date}T${time}Z", "dimensions": {"model": "chat", "kind": "$_->[0]"}})
	} [ input => $input ], [ output => $output ];
}
close $file;
is(scalar @rows, $requests, 'it has as many requests as it should');
append_to_file("$directory/trace.csv", join '', @rows);
append_to_file("$directory/trace.ndjson", join("\n", @items));
append_to_file("$directory/trace.json", '[' . join(',', @items) . "]\n");

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION meter;
SELECT count(*) FROM meter.create_partitions(0, '2023-11-01 00:00:00+00');
CREATE TABLE trace (at timestamptz, user_id text, key text, input numeric, output numeric);
COPY trace FROM '$directory/trace.csv' (FORMAT csv);
SQL

my %ways = (
	jsonb => "meter.record_events(pg_read_file('$directory/trace.json')::jsonb)",
	arrays => <<'SQL',
(SELECT array_agg(n || '_tokens' ORDER BY t.at, t.key, n) AS names, array_agg(t.user_id ORDER BY t.at, t.key, n) AS users,
        array_agg(CASE n WHEN 'input' THEN t.input ELSE t.output END ORDER BY t.at, t.key, n) AS quantities,
        array_agg(jsonb_build_object('kind', n, 'model', 'chat') ORDER BY t.at, t.key, n) AS dimensions,
        array_agg(t.key ORDER BY t.at, t.key, n) AS keys, array_agg(t.at ORDER BY t.at, t.key, n) AS times
 FROM trace t, unnest('{input,output}'::text[]) n) a,
meter.record_events(a.names, a.users, a.quantities, a.dimensions, a.keys, a.times)
SQL
	ndjson => "meter.ingest(pg_read_file('$directory/trace.ndjson'))",
	'JSON array' => "meter.ingest(pg_read_file('$directory/trace.json'))",
	'one by one' => <<'SQL',
(SELECT status FROM trace t, unnest('{input,output}'::text[]) n,
    -- As the others report it: a retry answers with an id that is there already.
    LATERAL (SELECT coalesce(max(id), 0) AS last FROM (SELECT last_value AS id FROM meter.meter_event_id_seq) s
             WHERE t.key IS NOT NULL AND n IS NOT NULL) before,
    LATERAL (SELECT CASE WHEN meter.record_event(n || '_tokens', t.user_id, CASE n WHEN 'input' THEN t.input ELSE t.output END,
                    jsonb_build_object('model', 'chat', 'kind', n), t.key, t.at) > before.last
                THEN 'recorded' ELSE 'duplicate' END AS status) r) one
SQL
);

# The rows of an org as one digest, without what differs between orgs.
my $digest = <<'SQL';
SELECT count(*), md5(string_agg(concat_ws('|', m.event_name, e.user_id, e.value, e.idempotency, e.dimensions, e.metadata,
                                          extract(epoch FROM e."timestamp")), ',' ORDER BY e."timestamp", m.event_name, e.idempotency))
FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE m.org = current_setting('meter.org')
SQL

my %digests;
for my $way (sort keys %ways)
{
	my $org = $way =~ s/\W/_/gr;
	my $sql = sub { $node->safe_psql('postgres', "SET TimeZone = 'Asia/Kolkata'; SET meter.org = '$org'; $_[0]") };
	$sql->("SELECT meter.create_meter(n || '_tokens', dimensions => '{model,kind}') FROM unnest('{input,output}'::text[]) n");

	my $events = 2 * $requests;
	is($sql->("SELECT status, count(*) FROM $ways{$way} GROUP BY status"), "recorded|$events", "$way: each is recorded");
	is($sql->("SELECT status, count(*) FROM $ways{$way} GROUP BY status"), "duplicate|$events", "$way: again: each is a duplicate");

	is($sql->(<<'SQL'), "input_tokens|$requests|$input_total\noutput_tokens|$requests|$output_total", "$way: the totals");
SELECT m.event_name, count(*), sum(e.value) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id
WHERE m.org = current_setting('meter.org') GROUP BY m.event_name ORDER BY m.event_name
SQL
	is($sql->(<<'SQL'), "$input_total|$requests\n$output_total|$requests", "$way: the totals by meter.usage");
SELECT value, event_count FROM unnest('{input,output}'::text[]) n,
    meter.usage(n || '_tokens', '2023-11-16 00:00:00+00', '2023-11-17 00:00:00+00') ORDER BY n
SQL
	is($sql->(<<'SQL'), '0', "$way: each user's, each minute, by both");
WITH ours AS (
    SELECT n, user_id, bucket_start, value, event_count FROM unnest('{input,output}'::text[]) n,
        meter.usage(n || '_tokens', '2023-11-16 00:00:00+00', '2023-11-17 00:00:00+00', group_by => '{user_id}', bucket => 'minute')
), plain AS (
    SELECT n, user_id, date_trunc('minute', at), sum(CASE n WHEN 'input' THEN input ELSE output END), count(*)
    FROM trace, unnest('{input,output}'::text[]) n GROUP BY 1, 2, 3
)
SELECT count(*) FROM (
    (TABLE ours EXCEPT ALL TABLE plain) UNION ALL (TABLE plain EXCEPT ALL TABLE ours)) differing
SQL
	is($sql->(<<'SQL'), "input_tokens|$input_total|$requests\noutput_tokens|$output_total|$requests", "$way: the report");
SELECT event_name, sum(value), sum(event_count) FROM meter.usage_report('2023-11-01 00:00:00+00', '2023-12-01 00:00:00+00')
GROUP BY event_name ORDER BY event_name
SQL
	is($sql->(<<'SQL'), '0', "$way: each event is what the trace says");
WITH ours AS (
    SELECT e."timestamp", e.user_id, e.idempotency,
           sum(e.value) FILTER (WHERE m.event_name = 'input_tokens'), sum(e.value) FILTER (WHERE m.event_name = 'output_tokens')
    FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id WHERE m.org = current_setting('meter.org') GROUP BY 1, 2, 3
)
SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE trace) UNION ALL (TABLE trace EXCEPT ALL TABLE ours)) differing
SQL
	$digests{ $sql->($digest) }++;
}
is(scalar keys %digests, 1, 'every way leaves the same rows');
is($node->safe_psql('postgres', "SELECT DISTINCT tableoid::regclass FROM meter.meter_event"), 'meter.meter_event_2023_11', 'all in their partition');

# A retry that comes by another way than the first.
my $crossed = $node->safe_psql('postgres', "SET meter.org = 'ndjson'; " . join ' ',
	map { "SELECT status, count(*) FROM $ways{$_} GROUP BY status;" } sort keys %ways);
is($crossed, join("\n", map { 'duplicate|' . 2 * $requests } keys %ways), 'each way knows the keys of the others');

done_testing();
