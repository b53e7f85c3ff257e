# Batches of events: record_events and ingest against INSERT ... SELECT ... ON CONFLICT DO NOTHING
# into a table by hand and into Lago's. README.md says what is measured.
use strict;
use warnings;
use IO::Handle;
use Bench;
use IPC::Open2 ();

my $per_run = scaled(100_000);
my $loaded = scaled(1_000_000);
my $next = 0; # the number of the next event

sql_file(__FILE__ =~ s{[^/]*\z}{setup.sql}r);

# Makes batches of `size` out of the next `count` events.
sub make {
    my ($count, $size, $ordered) = @_;
    sql("CALL batches.make($next, $count, $size, " . ($ordered ? 'true' : 'false') . ")");
    $next += $count;
    return;
}

# A session for each side, that stays: a client's does, and a new one pays for its first touch of
# each page of the server's memory. So arrays and text, which are compared, come from one session.
my %session;

# Sends the batches one side's way. Returns the seconds it took, and of CPU.
sub send_to {
    my ($side) = @_;
    my $call = $side eq 'fold' ? 'batches.fold()' : "batches.send('$side')";
    my $of = $side eq 'text' ? 'ours' : $side;
    unless ($session{$of}) {
        IPC::Open2::open2(my $out, my $in, 'psql', '-X', '-q', '-A', '-t', '-v', 'ON_ERROR_STOP=1');
        $in->autoflush;
        print {$in} "SET application_name = 'background';\n";
        $session{$of} = [ $in, $out ];
    }
    my ($in, $out) = @{ $session{$of} };
    print {$in} "TRUNCATE batches.result;\nCALL $call;\nSELECT wall || ' ' || cpu FROM batches.result;\n";
    my ($wall, $cpu) = split ' ', readline($out) // die "$call failed\n";
    return { wall => $wall, cpu => $cpu };
}

sub vacuum { sql("VACUUM meter.rollup_pending"); return; }

# The bytes that events take: those of the tables with all that belongs to them.
sub bytes_of {
    my ($tables) = @_;
    return sql("SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class c WHERE c.oid IN ($tables)");
}

# One kind of key, one size of batch: alternating runs over the same rows.
sub compare_size {
    my ($keys, $ordered, $size) = @_;
    my $title = "$keys keys, batches of $size";
    my (%wall, %cpu);
    for my $round (0 .. rounds(5)) {
        my %run;
        make($per_run, $size, $ordered);
        my @sides = qw(ours hand lago);
        @sides = reverse @sides if $round % 2;
        $run{$_} = send_to($_) for @sides;
        # What the events cause beside: the deltas folded.
        my $fold = send_to('fold');
        $run{folded} = { map { $_ => $run{ours}{$_} + $fold->{$_} } qw(wall cpu) };
        $run{"repeated_$_"} = send_to($_) for $round % 2 ? qw(hand ours) : qw(ours hand);
        make($per_run, $size, $ordered);
        $run{text} = send_to('text');
        send_to('hand');
        send_to('lago');
        send_to('fold');
        vacuum();
        next if $round == 0;
        for my $side (keys %run) {
            push @{ $wall{$side} }, $run{$side}{wall} * 1e6 / $per_run;
            push @{ $cpu{$side} }, $run{$side}{cpu} * 1e6 / $per_run;
        }
    }
    for my $pair (['', 'ours', 'hand'], [', and folding', 'folded', 'hand'], [', all duplicates', 'repeated_ours', 'repeated_hand'],
        [', against Lago', 'ours', 'lago'], [', ingest(text) against the arrays', 'text', 'ours']) {
        my ($what, $ours, $theirs) = @$pair;
        add_measure("$title$what", 'us an event', { ours => $wall{$ours}, theirs => $wall{$theirs} }, -1);
        add_measure("$title$what", 'CPU, us an event', { ours => $cpu{$ours}, theirs => $cpu{$theirs} }, -1);
    }
    return;
}

for my $kind (['random', 0], ['time-ordered', 1]) {
    my ($keys, $ordered) = @$kind;
    say_progress("   loading $loaded events");
    sql("TRUNCATE hand.usage_event, lago.events, meter.meter_event, meter.event_key, meter.rollup, meter.rollup_total, meter.rollup_days, meter.rollup_month, meter.rollup_pending");
    for (1 .. 10) {
        make($loaded / 10, 10_000, $ordered);
        send_to($_) for qw(ours hand lago fold);
    }
    vacuum();
    compare_size($keys, $ordered, $_) for 10_000, 1_000;
    my $count = sql('SELECT count(*) FROM meter.meter_event');
    my $expected = sql('SELECT count(*) FROM hand.usage_event');
    die "there are $count events, and $expected by hand\n" if $count != $expected;
    my $ours = bytes_of("SELECT 'meter.event_key'::regclass UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = 'meter.meter_event'::regclass");
    my $theirs = bytes_of("SELECT 'hand.usage_event'::regclass");
    add_row("$keys keys", 'bytes an event, rollups apart', (map { significant($_ / $count) } $ours, $theirs), significant($theirs / $ours));
    sql('VACUUM ANALYZE');
}
close $_->[0] for values %session;
wait_for_quiet();
1;
