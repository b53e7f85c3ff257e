# Runs benchmarks on the server that `run` started, and prints the table. See README.md.
use strict;
use warnings;
use FindBin;
use lib $FindBin::Bin;
use Bench;
use Cwd ();

$| = 1;
my @names;
while (@ARGV) {
    my $argument = shift @ARGV;
    if ($argument eq '--quick') { $Bench::quick = 1; }
    elsif ($argument eq '--rounds') { $Bench::rounds = shift @ARGV; }
    else { push @names, $argument; }
}
@names = sort map { m{([^/]+)/bench(?:\.pl)?$} ? $1 : () }
    glob("$FindBin::Bin/*/bench $FindBin::Bin/*/bench.pl") unless @names;

describe_machine();
for my $name (@names) {
    my $directory = "$FindBin::Bin/$name";
    print "-- $name\n";
    sql("DROP DATABASE IF EXISTS bench WITH (FORCE)");
    sql("CREATE DATABASE bench");
    local $ENV{PGDATABASE} = 'bench';
    sql("CREATE EXTENSION meter");
    if (-e "$directory/bench.pl") {
        my $ok = do "$directory/bench.pl";
        die "$name: " . ($@ || $!) . "\n" unless $ok;
    } else {
        run_benchmark($name, $directory);
    }
}
sql("DROP DATABASE IF EXISTS bench WITH (FORCE)");
print_table();

sub describe_machine {
    my $cpu = 'unknown processor';
    open my $in, '<', '/proc/cpuinfo' or die "/proc/cpuinfo: $!\n";
    my $count = 0;
    while (<$in>) {
        $cpu = $1 if /^model name\s*:\s*(.*)/;
        ++$count if /^processor\s*:/;
    }
    my $version = sql('SHOW server_version');
    open my $load, '<', '/proc/loadavg' or die "/proc/loadavg: $!\n";
    my ($average) = split ' ', scalar <$load>;
    print "PostgreSQL $version; $count x $cpu; load average at the start $average\n";
    return;
}

# Reads a benchmark's description: keys, then a [variant] a section with keys of its own, which
# override. Returns [name, {key => value}], ...
sub read_description {
    my ($path) = @_;
    open my $in, '<', $path or die "$path: $!\n";
    my (%common, @variants);
    while (<$in>) {
        chomp;
        next if /^\s*(#|$)/;
        if (/^\[(.*)\]$/) {
            push @variants, [$1, {%common}];
        } elsif (/^([\w ]+?)\s*=\s*(.*)$/) {
            (@variants ? $variants[-1][1] : \%common)->{$1} = $2;
        } else {
            die "$path: line $. is not understood: $_\n";
        }
    }
    return @variants ? @variants : ['', \%common];
}

# The text of a file with {{name}} replaced by the value of that name, and values likewise.
sub expand {
    my ($path, $values) = @_;
    open my $in, '<', $path or die "$path: $!\n";
    local $/;
    my $text = <$in>;
    for (1 .. 5) {
        $text =~ s/\{\{(\w+)\}\}/$values->{$1} \/\/ die "$path: no value for $1\n"/ge or last;
    }
    return $text;
}

sub run_benchmark {
    my ($name, $directory) = @_;
    my @variants = read_description("$directory/bench");
    my $scale = quick() ? 10 : 1;
    my ($events) = split /,/, $ENV{METER_BENCH_EVENTS} || 1_000_000 / $scale;
    sql("SET bench.scale = $scale;\nSET bench.events = $events;\n" . expand("$directory/setup.sql", {})) if -e "$directory/setup.sql";
    my $found = -e "$directory/vars.sql" ? row(expand("$directory/vars.sql", {})) : {};
    for my $variant (@variants) {
        my ($title, $values) = @$variant;
        compare($title eq '' ? $name : "$name: $title", $directory, { %$found, %$values });
    }
    return;
}

# One variant: alternating runs of both sides, then its rows of the table.
sub compare {
    my ($title, $directory, $values) = @_;
    my (%tps, %latency, %late, %cpu, @others);
    my @sides = -e "$directory/theirs.sql" ? ('ours', 'theirs') : ('ours');
    my $count = $values->{work} ? $values->{transactions} : scaled($values->{transactions});
    my $settings = join ' ', map { /^set (.*)/ ? "-c $1=$values->{$_}" : () } sort keys %$values;
    my $repeat = rounds($values->{rounds});
    my $kind = $values->{kind} // 'latency';
    # The first, uncounted round loads caches.
    for my $round (0 .. $repeat) {
        for my $side (@sides) {
            my $script = write_file("$ENV{TMPDIR}/$side.sql", expand("$directory/$side.sql", $values));
            sql(expand("$directory/before.sql", $values)) if -e "$directory/before.sql";
            my $run = run_pgbench($script, $count, $values->{options} // '-c 1', $settings);
            next if $round == 0;
            push @{ $tps{$side} }, $run->{tps};
            push @{ $cpu{$side} }, $run->{cpu};
            push @{ $latency{$side} }, median(@{ $run->{times} });
            push @{ $late{$side} }, percentile(0.99, @{ $run->{times} });
            push @others, $run->{others};
        }
    }
    if (-e "$directory/check.sql") {
        my $answer = sql(expand("$directory/check.sql", $values));
        die "$title: check.sql says: $answer\n" unless $answer eq 't';
    }
    add_measure($title, 'transactions/s', \%tps, 1) if $kind eq 'throughput';
    add_measure($title, 'median, ms', \%latency, -1) if $kind eq 'latency';
    add_measure($title, '99th percentile, ms', \%late, -1) if $kind eq 'latency' && $count >= 100;
    add_measure($title, 'server CPU, ms each', \%cpu, -1);
    printf "   other processes kept %.2f processors busy meanwhile (median; at most %.2f)\n", median(@others),
        percentile(1, @others);
    return;
}
