# Questions while a snapshot is held, as a function of the number of folds since: `meter.fold()` against folds that put
# all into cells each time. A fold after each few events, as fast as they go, stands for one a second over hours.
use strict;
use warnings;
use Bench;

my @folds = quick() ? (0, 100, 500) : split /,/, $ENV{METER_BENCH_FOLDS} || '0,1000,5000,15000';
# What is measured on the other side, whose folds take longer and longer.
my $most_theirs = quick() ? 500 : 5_000;
my $period = "date_trunc('month', now()), date_trunc('month', now()) + interval '1 month'";
my @questions = (
    ['the heaviest user by model', "SELECT * FROM meter.usage('tokens', $period, user_id => 'user-1', group_by => '{model}')"],
    ['every user', "SELECT * FROM meter.usage('tokens', $period, group_by => '{user_id}')"],
    ['all users by model', "SELECT * FROM meter.usage('tokens', $period, group_by => '{model}')"],
);
my %call = (ours => 'meter.fold()', theirs => 'meter.fold(into_cells => true)');
my %result; # {folds}{measure}{side}

for my $side ('ours', 'theirs') {
    prepare();
    my $holder = hold_snapshot();
    my $done = 0;
    for my $folds (grep { $side eq 'ours' || $_ <= $most_theirs } @folds) {
        if ($folds > $done) {
            my $cost = fold($side, $folds - $done);
            push @{ $result{$folds}{'CPU of a fold, ms'}{$side} }, $cost;
        }
        $done = $folds;
        measure_questions($side, $folds);
    }
    my ($differing) = sql("SELECT count(*) FROM meter.verify($period)");
    die "old_snapshot: meter.verify found $differing differences\n" if $differing;
    sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(86400)' AND pid <> pg_backend_pid()");
    waitpid $holder, 0;
}
for my $folds (@folds) {
    add_measure("old_snapshot: after $folds folds", $_, $result{$folds}{$_}, -1) for sort keys %{ $result{$folds} };
}

# 50 users, of whom the first has half of all events, 15 sets of dimensions.
sub prepare {
    sql('DROP EXTENSION IF EXISTS meter CASCADE; DROP SCHEMA IF EXISTS hand CASCADE; CREATE EXTENSION meter; CREATE SCHEMA hand');
    sql(<<'SQL');
SELECT meter.create_meter('tokens', dimensions => '{model,region}');
CREATE FUNCTION hand.record(count int) RETURNS bigint LANGUAGE sql VOLATILE AS $$
    SELECT count(*) FROM (
        SELECT array_agg('tokens'::text) AS names,
            array_agg(CASE WHEN i % 2 = 0 THEN 'user-1' ELSE 'user-' || 2 + floor(exp(random() * ln(49)))::int END) AS users,
            array_agg((random() * 100)::numeric(10, 2)) AS quantities,
            array_agg(jsonb_build_object('model', 'm' || i / 2 % 5, 'region', 'r' || i / 10 % 3)) AS dimensions,
            array_agg(NULL::text) AS keys, array_agg(clock_timestamp()) AS times
        FROM generate_series(1, count) AS i) AS b,
        meter.record_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times)
$$;
CREATE TABLE hand.cost (cpu bigint NOT NULL);
CREATE FUNCTION hand.cpu() RETURNS bigint LANGUAGE sql VOLATILE
AS $$ SELECT split_part(pg_read_file('/proc/self/schedstat'), ' ', 1)::bigint $$;
CREATE PROCEDURE hand.fold(folds int, into_cells boolean) LANGUAGE plpgsql AS $$
DECLARE
    before bigint;
    used bigint := 0;
BEGIN
    FOR i IN 1..folds LOOP
        PERFORM hand.record(30);
        COMMIT;
        before := hand.cpu();
        PERFORM meter.fold(into_cells);
        COMMIT;
        used := used + hand.cpu() - before;
    END LOOP;
    INSERT INTO hand.cost VALUES (used);
END $$;
-- Asks so often, each time under a new snapshot; the CPU time of the session for each, and the median time, in ms.
CREATE FUNCTION hand.ask(question text, count int, OUT cpu float8, OUT wall float8) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    started timestamptz;
    times float8[];
    before bigint := hand.cpu();
BEGIN
    FOR i IN 1..count LOOP
        started := clock_timestamp();
        EXECUTE 'SELECT count(*) FROM (' || question || ') AS q';
        times[i] := extract(epoch FROM clock_timestamp() - started) * 1000;
    END LOOP;
    cpu := (hand.cpu() - before) / 1e6 / count;
    wall := (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY t) FROM unnest(times) AS t);
END $$;
SELECT hand.record(20000);
SELECT meter.fold();
VACUUM ANALYZE;
SQL
    return;
}

# A session that keeps its snapshot until it is ended.
sub hold_snapshot {
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        $ENV{PGAPPNAME} = 'background';
        open STDOUT, '>', '/dev/null' or die "$!\n";
        open STDERR, '>&', \*STDOUT or die "$!\n";
        exec 'psql', '-Xq', '-c', 'BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM meter.meter_event; SELECT pg_sleep(86400)' or die "$!\n";
    }
    for (1 .. 100) {
        return $pid if sql("SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(86400)' AND backend_xmin IS NOT NULL AND wait_event = 'PgSleep'") eq '1';
        select undef, undef, undef, 0.1;
    }
    die "the session that is to hold a snapshot does not\n";
}

# Folds so often after 30 events each; returns the CPU time of a fold in ms.
sub fold {
    my ($side, $folds) = @_;
    my $into_cells = $side eq 'theirs' ? 'true' : 'false';
    return sql("SET synchronous_commit = off;\nTRUNCATE hand.cost;\nCALL hand.fold($folds, $into_cells);\nSELECT cpu FROM hand.cost") / 1e6 / $folds;
}

# Asks while 200 events a second come in and a fold is made each second.
sub measure_questions {
    my ($side, $folds) = @_;
    my @background = (
        start_background('record', '-c', 1, '-R', 20, '-f', write_file("$ENV{TMPDIR}/record.sql", "SELECT hand.record(10);\n")),
        start_background('fold', '-c', 1, '-R', 1, '-f', write_file("$ENV{TMPDIR}/fold.sql", "SELECT $call{$side};\n")));
    for my $question (@questions) {
        my ($name, $text) = @$question;
        for my $round (0 .. rounds(3)) {
            my $asked = row('SELECT * FROM hand.ask($$' . $text . '$$, ' . scaled(200) . ')');
            next if $round == 0;
            push @{ $result{$folds}{"$name, CPU, ms"}{$side} }, $asked->{cpu};
            push @{ $result{$folds}{"$name, median, ms"}{$side} }, $asked->{wall};
        }
    }
    kill 'TERM', @background;
    waitpid $_, 0 for @background;
    return;
}

# Runs pgbench until it is ended.
sub start_background {
    my ($name, @options) = @_;
    my $pid = fork // die "cannot fork: $!\n";
    return $pid if $pid;
    $ENV{PGAPPNAME} = 'background';
    $ENV{PGOPTIONS} = '-c synchronous_commit=off';
    open STDOUT, '>', "$ENV{TMPDIR}/background.$name.log" or die "$!\n";
    open STDERR, '>&', \*STDOUT or die "$!\n";
    exec 'pgbench', '-n', '-T', 86_400, @options or die "cannot run pgbench: $!\n";
}
1;
