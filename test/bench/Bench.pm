# What the benchmarks share: SQL, the server's CPU time, statistics, and the table of results.
package Bench;

use strict;
use warnings;
use Exporter 'import';
use POSIX ();
use Time::HiRes ();

our @EXPORT = qw(rounds sql sql_file row sample_cpu cpu_between wait_for_quiet postmaster quick scaled
    median percentile spread significant say_progress add_row add_measure print_table run_psql
    run_pgbench write_file);

my $ticks = POSIX::sysconf(&POSIX::_SC_CLK_TCK);
my @rows;
our $quick = 0;
our $rounds; # as asked for on the command line

sub quick { return $quick }

# The number of alternating rounds that count: as asked for, else as the benchmark wants it.
sub rounds { my ($wanted) = @_; return $rounds // ($quick ? 2 : $wanted // 5); }

# A number of transactions or rows, a tenth of it for a quick run.
sub scaled { my ($count) = @_; return $quick ? POSIX::ceil($count / 10) : $count; }

sub say_progress { print "@_\n"; return; }

sub write_file {
    my ($path, $text) = @_;
    open my $out, '>', $path or die "$path: $!\n";
    print {$out} $text;
    close $out or die "$path: $!\n";
    return $path;
}

# --- SQL, by psql

# Runs psql on `text` as its input and returns what it prints, unaligned and without headers.
# Dies where any statement fails.
sub run_psql {
    my ($text, @options) = @_;
    local $ENV{PGOPTIONS} = "-c client_min_messages=warning";
    my $path = write_file("$ENV{TMPDIR}/bench.$$.sql", $text);
    my $pid = open my $in, '-|', 'psql', '-X', '-q', '-A', '-t', '-F', "\t", '-v', 'ON_ERROR_STOP=1',
        @options, '-f', $path;
    die "cannot run psql: $!\n" unless $pid;
    local $/;
    my $out = <$in>;
    close $in or die "psql failed on: " . substr($text, 0, 500) . "\n";
    unlink $path;
    $out =~ s{\n\z}{};
    return $out;
}

sub sql { my ($text) = @_; return run_psql($text); }

sub sql_file {
    my ($path) = @_;
    open my $in, '<', $path or die "$path: $!\n";
    local $/;
    return run_psql(scalar <$in>);
}

# The first row of a query, as a hash by column name.
sub row {
    my ($query) = @_;
    my ($names, $values) = split /\n/, run_psql("\\pset tuples_only off\n\\pset footer off\n$query");
    die "no row from: $query\n" unless defined $values;
    my %row;
    @row{ split /\t/, $names } = split /\t/, $values, -1;
    return \%row;
}

# --- CPU time

sub postmaster {
    open my $in, '<', "$ENV{PGDATA}/postmaster.pid" or die "postmaster.pid: $!\n";
    my $pid = <$in>;
    chomp $pid;
    return $pid;
}

# (parent, own CPU, CPU of the children it has waited for) of a process, in ticks.
sub process_times {
    my ($pid) = @_;
    open my $in, '<', "/proc/$pid/stat" or return;
    my $line = <$in>;
    return unless defined $line && $line =~ s/^.*\) //s;
    my @field = split / /, $line;
    return ($field[1], $field[11] + $field[12], $field[13] + $field[14]);
}

# The ticks of the server and all its processes, living and gone. A process that ends between two
# reads would be missed, or counted twice: then everything is read again.
sub server_ticks {
    my $server = postmaster();
    for (1 .. 1000) {
        my (undef, $own, $gone) = process_times($server) or die "the server is gone\n";
        my $sum = $own + $gone;
        opendir my $proc, '/proc' or die "/proc: $!\n";
        for my $pid (grep { /^\d+$/ } readdir $proc) {
            my ($parent, $used, $waited) = process_times($pid) or next;
            $sum += $used + $waited if $parent == $server;
        }
        my (undef, undef, $gone_after) = process_times($server) or die "the server is gone\n";
        return $sum if $gone_after == $gone;
        Time::HiRes::sleep(0.01);
    }
    die "the server's processes end too fast to be counted\n";
}

# CPU seconds so far: of the server, of its clients, and of the whole machine.
sub sample_cpu {
    my $sum = server_ticks();
    open my $stat, '<', '/proc/stat' or die "/proc/stat: $!\n";
    my (undef, $user, $nice, $system, undef, undef, $irq, $softirq, $steal) = split ' ', scalar <$stat>;
    my (undef, undef, $child_user, $child_system) = times;
    return {
        server => $sum / $ticks,
        machine => ($user + $nice + $system + $irq + $softirq + $steal) / $ticks,
        clients => $child_user + $child_system,
        wall => Time::HiRes::time(),
    };
}

# What was used between two samples: `server` CPU seconds, `wall` seconds, and `others`, the
# number of processors that processes other than ours kept busy meanwhile.
sub cpu_between {
    my ($before, $after) = @_;
    my %used = map { $_ => $after->{$_} - $before->{$_} } keys %$after;
    my $others = ($used{machine} - $used{server} - $used{clients}) / ($used{wall} || 1);
    $used{others} = $others > 0 ? $others : 0;
    return \%used;
}

# Waits until no client is connected any more, so that its CPU time is complete. Those that call
# themselves `background` do not count.
sub wait_for_quiet {
    for (1 .. 100) {
        return if sql("SELECT count(*) FROM pg_stat_activity WHERE backend_type IN ('client backend', "
                . "'parallel worker') AND pid <> pg_backend_pid() AND application_name <> 'background'") eq '0';
        Time::HiRes::sleep(0.02);
    }
    die "clients stay connected\n";
}

# --- pgbench

# One run of pgbench: `count` transactions a client. Returns tps, the times of all transactions
# (ms), the server's CPU time for each (ms), and what else the machine did.
sub run_pgbench {
    my ($script, $count, $options, $settings) = @_;
    sql('CHECKPOINT');
    wait_for_quiet();
    my $log = "$ENV{TMPDIR}/pgbench_log";
    unlink glob "$log.*";
    local $ENV{PGOPTIONS} = $settings;
    my $before = sample_cpu();
    open my $in, '-|', "pgbench -n $options -t $count -f '$script' -l --log-prefix='$log' 2>&1"
        or die "cannot run pgbench: $!\n";
    my $out = do { local $/; <$in> };
    close $in or die "pgbench failed:\n$out";
    delete local $ENV{PGOPTIONS};
    wait_for_quiet();
    my $used = cpu_between($before, sample_cpu());
    my ($tps) = $out =~ /^tps = ([\d.]+)/m or die "pgbench did not report:\n$out";
    my ($done, $wanted) = $out =~ m{actually processed: (\d+)/(\d+)} or die "pgbench did not report:\n$out";
    die "pgbench processed $done of $wanted transactions:\n$out" if $done != $wanted || $out =~ /aborted/;
    my @times;
    for my $file (glob "$log.*") {
        open my $lines, '<', $file or die "$file: $!\n";
        while (<$lines>) { push @times, (split)[2] / 1000; }
        close $lines;
        unlink $file;
    }
    return { tps => $tps, times => \@times, cpu => $used->{server} * 1000 / $done, others => $used->{others} };
}

# --- statistics

sub percentile {
    my ($fraction, @values) = @_;
    my @sorted = sort { $a <=> $b } @values;
    my $at = POSIX::ceil($fraction * @sorted) - 1;
    return $sorted[$at < 0 ? 0 : $at];
}

sub median {
    my @sorted = sort { $a <=> $b } @_;
    my $middle = int(@sorted / 2);
    return @sorted % 2 ? $sorted[$middle] : ($sorted[$middle - 1] + $sorted[$middle]) / 2;
}

# A number to three digits, or all the digits before the point.
sub significant {
    my ($number) = @_;
    return '0' if $number == 0;
    my $digits = 2 - POSIX::floor(POSIX::log10(abs $number));
    return sprintf '%.*f', $digits > 0 ? $digits : 0, $number;
}

# "median (lowest..highest)"
sub spread {
    my @values = @_;
    return significant($values[0]) if @values == 1;
    return sprintf '%s (%s..%s)', map { significant($_) } median(@values), percentile(0, @values),
        percentile(1, @values);
}

# --- the table

# A row: benchmark, measure, ours, theirs, ratio.
sub add_row {
    push @rows, [map { $_[$_] // '' } 0 .. 4];
    say_progress('   ' . join '  |  ', @{ $rows[-1] });
    return;
}

# A row for a measure; the ratio, of runs that were neighbours, is above 1 where meter is better.
sub add_measure {
    my ($title, $measure, $values, $direction) = @_;
    my ($ours, $theirs) = @$values{qw(ours theirs)};
    my @ratios = $theirs ? map { ($ours->[$_] / ($theirs->[$_] || 1e-9))**$direction } 0 .. $#$ours : ();
    add_row($title, $measure, spread(@$ours), $theirs ? spread(@$theirs) : '', @ratios ? spread(@ratios) : '');
    return;
}

sub print_table {
    return unless @rows;
    my @all = (['benchmark', 'measure', 'meter', 'by hand', 'ratio'], @rows);
    my @width = (0) x 5;
    for my $row (@all) {
        for my $i (0 .. 4) { $width[$i] = length $row->[$i] if length $row->[$i] > $width[$i]; }
    }
    my $line = sub { '| ' . join(' | ', map { sprintf '%-*s', $width[$_], $_[0][$_] } 0 .. 4) . " |\n" };
    print "\n", $line->($all[0]), '|', join('|', map { '-' x ($_ + 2) } @width), "|\n";
    print $line->($_) for @rows;
    return;
}

1;
