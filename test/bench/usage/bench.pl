# Questions about usage over many events: meter.usage against GROUP BY over a well-indexed table of the same events,
# after folding and under a running ingest; what folding costs against inserting, and the size of the rollups against
# that of the events. Two shapes of usage: sparse (2,000 users) and dense (50).
use strict;
use warnings;
use Bench;

my $directory = "$FindBin::Bin/usage";
my %users = (sparse => 2000, dense => 50);
my @sizes = split /,/, $ENV{METER_BENCH_EVENTS} || (quick() ? '100000' : '1000000,10000000');
my $batch = 10_000;
my %median; # {shape}{question}{size}: ms of both sides

# Both sides' sessions: what one would set for a database that fits in memory.
my $settings = '-c work_mem=64MB -c random_page_cost=1.1 -c effective_cache_size=8GB -c jit=off';

for my $shape (split /,/, $ENV{METER_BENCH_SHAPES} || 'sparse,dense') {
    for my $size (@sizes) {
        my $title = sprintf 'usage: %s, %s events', $shape, short($size);
        my $times = prepare($shape, $size);
        load($title, $size);
        measure_sizes($title, $shape);
        measure_questions($title, $shape, $size, $times);
        measure_ingest($title, $times);
        verify($title, $times);
    }
    compare_sizes($shape) if @sizes > 1;
}

# 1000000 as 1M.
sub short {
    my ($number) = @_;
    return $number % 1_000_000 ? $number / 1000 . 'k' : $number / 1_000_000 . 'M';
}

# --- loading

# Empty tables of both sides for so many events of the last full month and of this one up to now. Returns the instants
# that questions need, as SQL literals.
sub prepare {
    my ($shape, $size) = @_;
    sql('DROP EXTENSION IF EXISTS meter CASCADE; DROP SCHEMA IF EXISTS hand CASCADE; CREATE EXTENSION meter');
    sql_file("$directory/load.sql");
    my $times = row(<<'SQL');
SELECT quote_literal(now) AS now, quote_literal(now - interval '7 days') AS week, quote_literal(month) AS month, quote_literal(this_month) AS this_month,
       quote_literal(today - interval '30 days') AS days_start, quote_literal(today) AS days_end,
       quote_literal(month AT TIME ZONE 'UTC' AT TIME ZONE 'America/New_York') AS new_york,
       quote_literal(this_month AT TIME ZONE 'UTC' AT TIME ZONE 'America/New_York') AS new_york_end,
       quote_literal(month AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Kolkata') AS kolkata,
       quote_literal(this_month AT TIME ZONE 'UTC' AT TIME ZONE 'Asia/Kolkata') AS kolkata_end,
       extract(epoch FROM now - month) / 86400 AS days
FROM (SELECT now(), date_trunc('day', now(), 'UTC') AS today, date_trunc('month', now(), 'UTC') AS this_month,
             date_trunc('month', now(), 'UTC') - interval '1 month' AS month) AS t
SQL
    # hand.batch bends time: the day that it bends to now.
    my ($low, $high) = (0, $times->{days} + 1);
    for (1 .. 60) {
        my $day = ($low + $high) / 2;
        my $bent = $day + 0.7 * sin(2 * 3.14159265358979 * $day) / (2 * 3.14159265358979);
        ($bent < $times->{days} ? $low : $high) = $day;
    }
    sql(<<"SQL");
SELECT count(*) FROM meter.create_partitions(1, $times->{month});
SELECT count(*)
FROM unnest('{tokens,calls,seconds,bytes}'::text[]) AS e, meter.create_meter(e, dimensions => '{model,region}');
INSERT INTO hand.meter SELECT id, event_name FROM meter.meter;
INSERT INTO hand.shape VALUES ($size, $users{$shape}, $times->{month}, $low);
SQL
    return $times;
}

# Loads all events in their order. They are folded after each 100,000, five times, then after 500,000, and so on.
sub load {
    my ($title, $size) = @_;
    my $few = $size < 1_000_000 ? $size / 10 : 100_000;
    my $many = 5 * $few;
    my $script = "SET synchronous_commit = off;\n";
    my $at = 0;
    for (my $cycle = 0; $at < $size; ++$cycle) {
        my $step = $cycle % 6 == 5 ? $many : $few;
        $step = $size - $at if $step > $size - $at;
        $script .= sprintf "CALL hand.load(%d, %d, %d);\n", $at + 1, $at + $step, $batch;
        $script .= sprintf "CALL hand.fold('fold %s', %d);\n", $step == $many ? 'many' : 'few', $step;
        $script .= "VACUUM meter.rollup_pending;\n";
        $at += $step;
    }
    sql($script);
    sql('VACUUM ANALYZE');
    my %cost;
    for my $line (split /\n/, sql('SELECT what, cpu / 1000.0 / events, wall FROM hand.cost')) {
        my ($what, $cpu, $wall) = split /\t/, $line;
        $cost{$what} = { cpu => $cpu, wall => $wall };
    }
    for my $measure (['loading in batches of 10,000, s', 'wall'], ['loading in batches of 10,000, CPU us an event', 'cpu']) {
        my ($ours, $theirs) = map { $cost{$_}{ $measure->[1] } } 'record', 'insert';
        add_row($title, $measure->[0], significant($ours), significant($theirs), significant($theirs / $ours));
    }
    for my $fold ([few => $few], [many => $many]) {
        my ($ours, $theirs) = map { $cost{$_}{cpu} } "fold $fold->[0]", 'insert';
        add_row($title, 'fold each ' . short($fold->[1]) . ' against insert, CPU us an event', significant($ours),
            significant($theirs), significant($ours / $theirs) . ' of it');
    }
    return;
}

sub measure_sizes {
    my ($title) = @_;
    my $size = row(<<'SQL');
SELECT (SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass) AS events,
       (SELECT sum(pg_total_relation_size(name))
        FROM unnest('{meter.rollup,meter.rollup_total,meter.rollup_days,meter.rollup_month}'::regclass[]) AS name) AS rollups,
       pg_total_relation_size('meter.event_key') AS keys, pg_total_relation_size('hand.usage_event') AS hand,
       (SELECT count(*) FROM hand.usage_event) AS count
SQL
    add_row($title, 'events with their indexes, bytes each', map { significant($size->{$_} / $size->{count}) } 'events', 'hand');
    add_row($title, 'their keys, bytes each', significant($size->{keys} / $size->{count}));
    add_row($title, 'rollups with their indexes, bytes an event', significant($size->{rollups} / $size->{count}), '',
        significant($size->{rollups} * 100 / $size->{events}) . ' % of the events');
    return;
}

# --- questions

# The questions, each with a name, its SQL against meter, and its SQL by hand over the table `{{events}}`; `live` are those
# that are asked under ingest too. `now` is what "to date" ends with.
sub questions {
    my ($times, $now) = @_;
    my ($heaviest, $middle) = split /\n/, sql(<<"SQL");
WITH u AS (SELECT user_id, row_number() OVER (ORDER BY count(*) DESC, user_id) AS rank, count(*) OVER () AS users
           FROM hand.usage_event
           WHERE meter_id = (SELECT id FROM hand.meter WHERE event_name = 'tokens')
             AND "timestamp" >= $times->{month} AND "timestamp" < $times->{this_month}
           GROUP BY user_id)
SELECT quote_literal(user_id) FROM u WHERE rank IN (1, users / 2) ORDER BY rank
SQL
    my %month = (start => $times->{month}, end => $times->{this_month});
    my %week = (start => $times->{week}, end => $now);
    my %to_date = (start => $times->{this_month}, end => $now);
    my %days = (start => $times->{days_start}, end => $times->{days_end}, bucket => 'day');
    my %new_york = (start => $times->{new_york}, end => $times->{new_york_end}, bucket => 'day', zone => 'America/New_York');
    my %kolkata = (start => $times->{kolkata}, end => $times->{kolkata_end}, bucket => 'day', zone => 'Asia/Kolkata');
    return (
        question('one user, last month, by model', %month, user => $heaviest, by => ['model'], live => 1),
        question('one user, last month, by model and day', %month, user => $heaviest, by => ['model'], bucket => 'day'),
        question('one user, month to date, by model', %to_date, user => $heaviest, by => ['model'], live => 1),
        question('one user, 7 days to the microsecond, by model', %week, user => $heaviest, by => ['model']),
        question('one user, last month in New York, by day', %new_york, user => $heaviest),
        question('one user, last month in Kolkata, by day', %kolkata, user => $heaviest),
        question('a median user, last month, by model', %month, user => $middle, by => ['model']),
        question('a median user, last month in New York, by day', %new_york, user => $middle),
        question('invoices: last month by user', %month, by => ['user_id'], live => 1),
        question('all users, 30 days, by model and day', %days, by => ['model'], live => 1),
        question('all users, month to date, by model', %to_date, by => ['model']),
        question('all users, 7 days to the microsecond, by model', %week, by => ['model'], live => 1),
        question('all users, last month in New York, by day', %new_york),
        question('all users, last month in Kolkata, by day', %kolkata),
        report_question('report of one user, last month', %month, user => $heaviest),
    );
}

sub question {
    my ($name, %about) = @_;
    my @ours = ($about{bucket} ? 'bucket_start' : ());
    my $zone = $about{zone} // 'UTC';
    my @theirs = map { "date_trunc('$about{bucket}', \"timestamp\", '$zone') AS bucket_start" } @ours;
    for my $column (@{ $about{by} }) {
        push @ours, $column eq 'user_id' ? 'user_id' : "dimensions->>'$column' AS $column";
        push @theirs, $ours[-1];
    }
    my $arguments = "'tokens', $about{start}, $about{end}";
    $arguments .= ", user_id => $about{user}" if $about{user};
    $arguments .= ", group_by => '{" . join(',', @{ $about{by} }) . "}'" if $about{by};
    $arguments .= ", bucket => '$about{bucket}'" if $about{bucket};
    $arguments .= ", time_zone => '$about{zone}'" if $about{zone};
    my $where = "meter_id = {{meter}} AND \"timestamp\" >= $about{start} AND \"timestamp\" < $about{end}";
    $where .= " AND user_id = $about{user}" if $about{user};
    return {
        name => $name,
        live => $about{live},
        ours => 'SELECT ' . join(', ', @ours, 'value', 'event_count') . " FROM meter.usage($arguments)",
        theirs => 'SELECT ' . join(', ', @theirs, 'sum(value) AS value', 'count(*) AS event_count')
            . " FROM {{events}} WHERE $where GROUP BY " . join(', ', 1 .. @theirs),
    };
}

sub report_question {
    my ($name, %about) = @_;
    return {
        name => $name,
        ours => 'SELECT event_name, user_id, value, event_count '
            . "FROM meter.usage_report($about{start}, $about{end}, user_id => $about{user})",
        theirs => 'SELECT event_name, user_id, sum(value) AS value, count(*) AS event_count '
            . "FROM {{events}} JOIN hand.meter AS m ON m.id = meter_id WHERE user_id = $about{user} "
            . "AND \"timestamp\" >= $about{start} AND \"timestamp\" < $about{end} GROUP BY 1, 2",
    };
}

# The SQL of a side, its events in that table.
sub text_of {
    my ($question, $side, $events) = @_;
    my $text = $question->{$side};
    my $meter = $question->{meter} //= sql("SELECT id FROM hand.meter WHERE event_name = 'tokens'");
    $text =~ s/\{\{events\}\}/$events/g;
    $text =~ s/\{\{meter\}\}/$meter/g;
    return $text;
}

# Dies unless both sides give the same rows, and some, under one snapshot; `events` is the table that is read by hand.
sub check_answers {
    my ($title, $question, $events) = @_;
    my ($ours, $theirs) = map { text_of($question, $_, $events) } 'ours', 'theirs';
    my ($rows, $differing) = split /\t/, sql(<<"SQL");
WITH ours AS MATERIALIZED ($ours), theirs AS MATERIALIZED ($theirs)
SELECT (SELECT count(*) FROM ours),
       (SELECT count(*) FROM ((TABLE ours EXCEPT ALL TABLE theirs) UNION ALL (TABLE theirs EXCEPT ALL TABLE ours)) AS d)
SQL
    die "$title: $question->{name}: $differing rows differ\n" if $differing;
    die "$title: $question->{name}: there are no rows\n" unless $rows;
    return;
}

# Alternating runs of a question, after one of each side that is not counted and tells how often a run can ask it.
# Returns the medians of time and of CPU time by side, in ms, and how busy others were.
sub ask {
    my ($question) = @_;
    my %result = (others => []);
    my %count;
    for my $round (0 .. rounds()) {
        for my $side ('ours', 'theirs') {
            my $script = write_file("$ENV{TMPDIR}/$side.sql", text_of($question, $side, 'hand.usage_event') . ";\n");
            my $run = run_pgbench($script, $count{$side} // 3, '-c 1', $settings);
            my $ms = median(@{ $run->{times} });
            if ($round == 0) {
                my $fitting = int((quick() ? 100 : 500) / ($ms || 1));
                $count{$side} = $fitting < 1 ? 1 : $fitting > 1000 ? 1000 : $fitting;
                next;
            }
            push @{ $result{ms}{$side} }, $ms;
            push @{ $result{cpu}{$side} }, $run->{cpu};
            push @{ $result{others} }, $run->{others};
        }
    }
    return \%result;
}

sub measure_questions {
    my ($title, $shape, $size, $times) = @_;
    my @others;
    for my $question (questions($times, $times->{now})) {
        check_answers($title, $question, 'hand.usage_event');
        my $result = ask($question);
        add_measure("$title: $question->{name}", 'median, ms', $result->{ms}, -1);
        add_measure("$title: $question->{name}", 'server CPU, ms each', $result->{cpu}, -1);
        push @{ $median{$shape}{ $question->{name} } },
            { map { $_ => median(@{ $result->{ms}{$_} }) } 'ours', 'theirs' };
        push @others, @{ $result->{others} };
    }
    printf "   other processes kept %.2f processors busy meanwhile (median; at most %.2f)\n", median(@others),
        percentile(1, @others);
    return;
}

# How much longer the same questions take over the most events than over the fewest.
sub compare_sizes {
    my ($shape) = @_;
    for my $name (sort keys %{ $median{$shape} }) {
        my ($first, $last) = @{ $median{$shape}{$name} }[0, -1];
        add_row("usage: $shape: $name", 'ms of ' . short($sizes[-1]) . ' / ' . short($sizes[0]),
            map { significant($last->{$_} / $first->{$_}) } 'ours', 'theirs');
    }
    return;
}

# --- the same while events come in

my @background;

# Runs pgbench until the benchmark ends.
sub start_background {
    my ($name, @options) = @_;
    my $log = "$ENV{TMPDIR}/background.$name.log";
    my $pid = fork // die "cannot fork: $!\n";
    if ($pid == 0) {
        $ENV{PGAPPNAME} = 'background';
        $ENV{PGOPTIONS} = '-c synchronous_commit=off';
        open STDOUT, '>', $log or die "$log: $!\n";
        open STDERR, '>&', \*STDOUT or die "$log: $!\n";
        exec 'pgbench', '-n', '-T', 86_400, @options or die "cannot run pgbench: $!\n";
    }
    push @background, { name => $name, pid => $pid, log => $log };
    return;
}

sub stop_background {
    my @stopped = splice @background;
    for my $process (@stopped) {
        kill 'TERM', $process->{pid};
        waitpid $process->{pid}, 0;
    }
    return @stopped;
}

END { stop_background(); }

# 200 single events and 4 batches of 500 a second on each side, and a fold a second.
sub start_ingest {
    my %batch = (
        ours => 'SELECT count(*) FROM hand.random_batch(500) AS b, '
            . 'meter.record_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times)',
        theirs => 'SELECT hand.insert_events(b.names, b.users, b.quantities, b.dimensions, b.keys, b.times) '
            . 'FROM hand.random_batch(500) AS b',
    );
    my $user = 'hand.pick_user(random(), users)';
    my %single = (
        ours => "SELECT meter.record_event(hand.pick_meter(random()), $user, 1.5, hand.pick_dimensions(random()), "
            . 'gen_random_uuid()::text, hand.random_time()) FROM hand.shape',
        theirs => 'INSERT INTO hand.usage_event ("timestamp", meter_id, user_id, value, idempotency, dimensions) '
            . "SELECT hand.random_time(), m.id, $user, 1.5, gen_random_uuid()::text, hand.pick_dimensions(random()) "
            . 'FROM hand.shape, (SELECT hand.pick_meter(random()) AS event_name OFFSET 0) AS p '
            . 'JOIN hand.meter AS m USING (event_name) ON CONFLICT DO NOTHING',
    );
    for my $side ('ours', 'theirs') {
        my $single = write_file("$ENV{TMPDIR}/single.$side.sql", "$single{$side};\n");
        my $batch = write_file("$ENV{TMPDIR}/batch.$side.sql", "$batch{$side};\n");
        start_background($side, '-c', 2, '-R', 204, '-f', "$single\@200", '-f', "$batch\@4");
    }
    my $fold = write_file("$ENV{TMPDIR}/fold.sql", "SELECT meter.fold();\n");
    my $vacuum = write_file("$ENV{TMPDIR}/vacuum.sql", "VACUUM meter.rollup_pending;\n");
    start_background('fold', '-c', 1, '-R', 1, '-f', "$fold\@9", '-f', "$vacuum\@1");
    return;
}

# Some of the questions while events come in on both sides. The answers of meter must be those of its own events.
sub measure_ingest {
    my ($title, $times) = @_;
    my $before = count_events();
    my $started = time;
    start_ingest();
    for my $question (grep { $_->{live} } questions($times, 'now()')) {
        check_answers("$title, under ingest", $question, 'meter.meter_event');
        add_measure("$title, under ingest: $question->{name}", 'median, ms', ask($question)->{ms}, -1);
    }
    my $seconds = time - $started;
    for my $process (stop_background()) {
        open my $in, '<', $process->{log} or die "$process->{log}: $!\n";
        my @wrong = grep { /ERROR|aborted/ } <$in>;
        die "$title: the ingest of $process->{name} failed: @wrong\n" if @wrong;
    }
    wait_for_background();
    my $after = count_events();
    add_row("$title, under ingest", 'events a second',
        map { significant(($after->{$_} - $before->{$_}) / $seconds) } 'ours', 'theirs');
    return;
}

sub count_events {
    return row('SELECT (SELECT count(*) FROM meter.meter_event) AS ours, (SELECT count(*) FROM hand.usage_event) AS theirs');
}

# All cells against the events.
sub verify {
    my ($title, $times) = @_;
    my $started = time;
    my $differing = sql("SELECT count(*) FROM meter.verify($times->{month}, now())");
    die "$title: meter.verify found $differing differences\n" if $differing;
    add_row($title, 'meter.verify, s', time - $started);
    return;
}

# Waits until the sessions of the ingest have gone.
sub wait_for_background {
    for (1 .. 100) {
        return if sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'background'") eq '0';
        sleep 1;
    }
    die "the ingest does not end\n";
}
1;
