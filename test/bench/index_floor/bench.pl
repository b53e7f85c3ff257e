# What entering rows into the indexes alone costs PostgreSQL: those of meter, and those of the table by hand. No way of
# recording can be cheaper than its indexes; README.md says how it is counted.
use strict;
use warnings;
use Bench;

my $per_run = scaled(100_000);
my $loaded = scaled(1_000_000);
my $next = 0;
my $event = 'id, at, meter_id, generation, user_id, key';
my $ledger = 'key::uuid, id, id, at';
# Table, order of its index, columns, and the same without an index.
my @tables = (
    [ key => 'key::uuid', $ledger, 'key_heap' ],
    [ event_user => 'user_id, meter_id, at', $event, 'event_heap' ],
    [ event_time => 'meter_id, at', $event, 'event_heap' ],
    [ event_delta => 'generation, user_id, meter_id', $event, 'event_heap' ],
    [ event_id => 'id', $event, 'event_heap' ],
    [ event_unique => 'key', $event, 'event_heap' ]);

sub make {
    my ($count, $size, $ordered) = @_;
    sql("CALL floor.make($next, $count, $size, " . ($ordered ? 'true' : 'false') . "); ANALYZE floor.event");
    $next += $count;
    return;
}

sub enter {
    my ($name, $order, $columns) = @_;
    return sql("TRUNCATE floor.result; CALL floor.enter('$name', '$order', '$columns'); SELECT cpu FROM floor.result") * 1e6 / $per_run;
}

sql_file(__FILE__ =~ s{[^/]*\z}{setup.sql}r);
for my $kind (['random', 0], ['time-ordered', 1]) {
    my ($keys, $ordered) = @$kind;
    sql('TRUNCATE ' . join ', ', map { "floor.$_->[0]" } @tables);
    make($loaded, $loaded, $ordered);
    say_progress("   loading $loaded rows");
    sql("INSERT INTO floor.$_->[0] SELECT $_->[2] FROM floor.event") for grep { $_->[0] ne 'event_delta' } @tables;
    for my $size (10_000, 1_000) {
        my %cost;
        my $deltas = 1;
        for my $round (0 .. rounds(5)) {
            make($per_run, $size, $ordered);
            $deltas = sql('SELECT count(DISTINCT (batch, meter_id, user_id, cell))::float / count(*) FROM floor.event');
            sql('TRUNCATE floor.event_delta, floor.key_heap, floor.event_heap');
            for my $table ($round % 2 ? reverse @tables : @tables) {
                my ($name, $order, $columns, $heap) = @$table;
                my $without = enter($heap, $order, $columns);
                my $with = enter($name, $order, $columns);
                push @{ $cost{$name} }, $with - $without if $round > 0;
            }
        }
        my $title = "$keys keys, batches of $size";
        add_row("$title: an entry by key", 'CPU, us', spread(@{ $cost{key} }), spread(@{ $cost{event_unique} }));
        add_row("$title: an entry by user and time", 'CPU, us', (spread(@{ $cost{event_user} })) x 2);
        add_row("$title: an entry by time; by id", 'CPU, us', spread(@{ $cost{event_time} }), spread(@{ $cost{event_id} }));
        add_row("$title: an entry of a delta, " . significant($deltas) . ' an event', 'CPU, us', spread(@{ $cost{event_delta} }));
        my %median = map { $_ => median(@{ $cost{$_} }) } keys %cost;
        my $ours = $median{key} + $median{event_user} + $median{event_time} + $deltas * $median{event_delta};
        my $theirs = $median{event_unique} + $median{event_user} + $median{event_id};
        add_row("$title: the indexes of an event", 'CPU, us', significant($ours), significant($theirs), significant($theirs / $ours));
    }
}
1;
