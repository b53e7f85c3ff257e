# One backend that records a million events, one by one: its private memory must not grow. Samples are taken in that
# backend: RssAnon of /proc/self/status, and the sum of its memory contexts.
use strict;
use warnings;
use Bench;

my $count = scaled(1_000_000);

sql(<<'SQL');
CREATE SCHEMA hand;
CREATE TABLE hand.sample (run text, calls int, rss_kb bigint, contexts_kb bigint);
CREATE FUNCTION hand.take_sample(run text, calls int) RETURNS void LANGUAGE sql
AS $$ INSERT INTO hand.sample
      SELECT run, calls, substring(pg_catalog.pg_read_file('/proc/self/status') FROM 'RssAnon:\s+(\d+) kB')::bigint,
             (SELECT sum(total_bytes) / 1024 FROM pg_catalog.pg_backend_memory_contexts) $$;
SQL

# Each run has tables of its own size, so that it starts as the others do.
sub prepare {
    sql(<<'SQL');
DROP EXTENSION IF EXISTS meter CASCADE;
CREATE EXTENSION meter;
SELECT count(*) FROM meter.create_partitions();
SELECT FROM meter.create_meter('tokens', dimensions => '{model,region,status}');
DROP TABLE IF EXISTS hand.usage_event;
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
CHECKPOINT;
SQL
    return;
}

my $dimensions = q('{"model":"gpt-4","region":"us","status":200}'::jsonb);

# The statement that records event number `n`.
sub statement {
    my ($side, $n, $key) = @_;
    return $side eq 'ours'
        ? "meter.record_event('tokens', 'user-' || ($n) % 1000, 1.5, $dimensions, $key)"
        : "INSERT INTO hand.usage_event (meter_id, user_id, value, \"timestamp\", idempotency, dimensions, metadata, "
        . "recorded_at) VALUES (1, 'user-' || ($n) % 1000, 1.5, now(), $key, $dimensions, '{}', now()) ON CONFLICT DO NOTHING";
}

# Separate statements from a client, prepared.
sub run_statements {
    my ($side) = @_;
    my $call = statement($side, ':n::int', 'gen_random_uuid()::text');
    $call = "SELECT $call" if $side eq 'ours';
    my $script = write_file("$ENV{TMPDIR}/memory.sql", <<"SQL");
\\set n :n + 1
\\if :n = 500 or :n = 1000 or :n = $count
SELECT hand.take_sample('$side', :n);
\\endif
$call;
SQL
    local $ENV{PGOPTIONS} = '-c synchronous_commit=off';
    system("pgbench -n -c 1 -M prepared -t $count -D n=0 -f '$script' >'$ENV{TMPDIR}/memory.log' 2>&1") == 0
        or die "pgbench failed, see memory.log\n";
    return;
}

# A loop in PL/pgSQL, in one transaction or with a commit after each call.
sub run_loop {
    my ($side, $key, $commit) = @_;
    my $call = statement($side, 'i', $key);
    $call = "PERFORM $call" if $side eq 'ours';
    my $end = $commit ? 'COMMIT;' : '';
    sql(<<"SQL");
SET synchronous_commit = off;
DO \$\$
BEGIN
    FOR i IN 1..$count LOOP
        $call;
        $end
        IF i IN (500, 1000, $count) THEN
            PERFORM hand.take_sample('$side', i);
            $end
        END IF;
    END LOOP;
END \$\$;
SQL
    return;
}

my @runs = (
    ['separate statements', \&run_statements],
    ['one transaction', sub { run_loop($_[0], 'gen_random_uuid()::text', 0) }],
    ['a loop with commits', sub { run_loop($_[0], 'gen_random_uuid()::text', 1) }],
    ['a loop with commits, all but 1,000 of them retries', sub { run_loop($_[0], "'key-' || i % 1000", 1) }],
);
for my $run (@runs) {
    my ($title, $body) = @$run;
    my %memory;
    prepare();
    sql('TRUNCATE hand.sample');
    for my $side ('ours', 'theirs') {
        my $before = sample_cpu();
        $body->($side);
        wait_for_quiet();
        my $used = cpu_between($before, sample_cpu());
        for my $at (1000, $count) {
            $memory{$side}{$at} = row("SELECT rss_kb, contexts_kb FROM hand.sample WHERE run = '$side' AND calls = $at");
        }
        $memory{$side}{cpu} = $used->{server} * 1000 / $count;
    }
    for my $measure (['RssAnon', 'rss_kb'], ['memory contexts', 'contexts_kb']) {
        my ($name, $column) = @$measure;
        my %text;
        for my $side ('ours', 'theirs') {
            my ($first, $last) = map { $memory{$side}{$_}{$column} } 1000, $count;
            $text{$side} = sprintf '%d, then %d: %+d', $first, $last, $last - $first;
        }
        add_row("backend_memory: $title", "$name after 1,000 and $count, kB", @text{ 'ours', 'theirs' });
    }
    add_row("backend_memory: $title", 'server CPU, ms each', map({ significant($memory{$_}{cpu}) } 'ours', 'theirs'),
        significant($memory{theirs}{cpu} / $memory{ours}{cpu}));
}
1;
