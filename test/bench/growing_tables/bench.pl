# One session that starts on empty, analyzed tables and records batches of 1,000 until there are a million events,
# with no ANALYZE in between: a plan kept from the beginning must not become a scan of everything. In each batch 50
# events are those of the batch before again, 20 are older ones, and 5 conflict with older ones.
use strict;
use warnings;
use Bench;

my $batches = scaled(1000);

sql(<<'SQL');
SELECT count(*) FROM meter.create_partitions();
SELECT FROM meter.create_meter('tokens', dimensions => '{model,region}');
CREATE SCHEMA hand;
CREATE TABLE hand.usage_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    meter_id bigint NOT NULL,
    user_id text NOT NULL,
    value numeric NOT NULL,
    "timestamp" timestamptz NOT NULL,
    idempotency text,
    dimensions jsonb NOT NULL,
    metadata jsonb NOT NULL,
    recorded_at timestamptz NOT NULL,
    UNIQUE (meter_id, user_id, idempotency)
);
CREATE INDEX ON hand.usage_event (user_id, meter_id, "timestamp");
-- The columns of batch number b as arrays.
CREATE FUNCTION hand.batch(b int, OUT users text[], OUT quantities numeric[], OUT dimensions jsonb[], OUT keys text[])
LANGUAGE sql AS $$
    SELECT array_agg('user-' || n % 1000), array_agg((n % 5000)::numeric + CASE WHEN i > 1020 THEN 0.5 ELSE 0 END),
           array_agg(jsonb_build_object('model', 'gpt-' || n % 5, 'region', 'r' || n % 3)), array_agg(md5(n::text))
    FROM (SELECT i, CASE WHEN i <= 1000 THEN b * 950 + i ELSE 1 + (i * 7919 + b * 104729) % (b * 950 + 1) END AS n
          FROM generate_series(1, CASE WHEN b = 0 THEN 1000 ELSE 1025 END) AS i) AS e $$;
VACUUM ANALYZE;
SQL

# Retries and conflicts of single events, which are statements of their own.
my $single = join '', map {
    "\\echo $_->[0]\n" . "SELECT meter.record_event('tokens', 'user-1', $_->[1], '{\"model\":\"gpt-1\",\"region\":\"r1\"}', md5('1'));\n" x 20
} ['retry', '1'], ['conflict', '2'];

sub batch_statement {
    my ($side, $b) = @_;
    my $arrays = "hand.batch($b) AS b";
    return $side eq 'ours'
        ? "SELECT status, count(*) FROM $arrays, meter.record_events(array_fill('tokens'::text, "
        . "ARRAY[cardinality(users)]), users, quantities, dimensions, keys, NULL) AS r GROUP BY 1;\n"
        : 'INSERT INTO hand.usage_event (meter_id, user_id, value, "timestamp", idempotency, dimensions, metadata, recorded_at) '
        . "SELECT 1, u, q, now(), k, d, '{}', now() FROM $arrays, unnest(users, quantities, dimensions, keys) AS e(u, q, d, k) "
        . "ON CONFLICT DO NOTHING;\n";
}

# Runs a session and returns {tag => [ms, ...]} and what it printed.
sub timed_session {
    my ($script) = @_;
    my $path = write_file("$ENV{TMPDIR}/growing.sql", $script);
    open my $in, '-|', "psql -X -q -A -t -f '$path' 2>&1" or die "cannot run psql: $!\n";
    my ($tag, %times, @text) = ('first');
    while (<$in>) {
        if (/^(retry|conflict|batch|late_retry|late_conflict|plans)$/) { $tag = $1; }
        elsif (/^Time: ([\d.]+) ms/) { push @{ $times{$tag} }, $1; }
        else {
            push @text, $_;
            die "growing_tables: $_" if /ERROR/ && !/idempotency/;
        }
    }
    close $in;
    return (\%times, join '', @text);
}

my %times;
my $plans;
for my $side ('ours', 'theirs') {
    my $script = "SET synchronous_commit = off;\n\\timing on\n";
    $script .= "SELECT meter.record_event('tokens', 'user-1', 1, '{\"model\":\"gpt-1\",\"region\":\"r1\"}', md5('1'));\n$single"
        if $side eq 'ours';
    $script .= "\\echo batch\n" . join '', map { batch_statement($side, $_) } 0 .. $batches - 1;
    if ($side eq 'ours') {
        (my $late = $single) =~ s/echo /echo late_/g;
        $script .= $late . "\\echo plans\nLOAD 'auto_explain';\nSET auto_explain.log_min_duration = 0;\n"
            . "SET auto_explain.log_nested_statements = on;\nSET client_min_messages = log;\n"
            . "SET auto_explain.log_level = notice;\n$late" . batch_statement('ours', $batches);
    }
    ($times{$side}, my $text) = timed_session($script);
    ($plans) = $text =~ /(Query Text.*)/s if $side eq 'ours';
}
my %found;
while ($plans =~ /((?:Seq|Index|Index Only|Bitmap Heap) Scan[^\n]*? on (?:\w+\.)?(?:event_key|meter_event)\w*)/g) { ++$found{$1}; }
print "   plans at the end: $_ ($found{$_} times)\n" for sort keys %found;

my $tenth = int($batches / 10) || 1;
for my $part (0, 4, 9) {
    my %part = map {
        my @all = @{ $times{$_}{batch} };
        $_ => [@all[$part * $tenth .. ($part + 1) * $tenth - 1]]
    } 'ours', 'theirs';
    add_row(sprintf('growing_tables: batches of 1,000, tenth %d of 10', $part + 1), 'ms each', map({ spread(@$_) } @part{ 'ours', 'theirs' }),
        significant(median(@{ $part{theirs} }) / median(@{ $part{ours} })));
}
for my $what ('retry', 'conflict') {
    add_row("growing_tables: a single $what", 'ms, empty, then full',
        spread(@{ $times{ours}{$what} }) . ', then ' . spread(@{ $times{ours}{"late_$what"} }));
}
my $scans = join ', ', grep { /^Seq/ } sort keys %found;
add_row('growing_tables: sequential scans in kept plans', '', $scans || 'none');
1;
