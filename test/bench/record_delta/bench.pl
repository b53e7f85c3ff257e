# One event a call, as record_single has them: with its delta, against the same build but for without_delta.patch, which
# writes none. The column "by hand" is the latter.
use strict;
use warnings;
use Bench;

my $library = "$ENV{METER_BENCH_VARIANTS}/record_delta/without_delta.so";
my $key = 'gen_random_uuid()::text';

# Calls `body` with one side's database.
sub on_side {
    my ($side, $body) = @_;
    local $ENV{PGDATABASE} = "bench_$side";
    return $body->();
}

sub text_of {
    my ($file) = @_;
    open my $in, '<', "$FindBin::Bin/record_single/$file" or die "$file: $!\n";
    local $/;
    my $text = <$in>;
    $text =~ s/\{\{key\}\}/$key/g;
    return $text;
}

for my $side ('ours', 'theirs') {
    sql("DROP DATABASE IF EXISTS bench_$side WITH (FORCE)");
    sql("CREATE DATABASE bench_$side");
    on_side($side, sub {
        sql('CREATE EXTENSION meter');
        sql("UPDATE pg_proc SET probin = '$library' WHERE probin = '\$libdir/meter'") if $side eq 'theirs';
        sql('SET bench.scale = ' . (quick() ? 10 : 1) . ";\n" . text_of('setup.sql'));
    });
}

my $script = write_file("$ENV{TMPDIR}/record.sql", text_of('ours.sql'));
for my $durable ('on', 'off') {
    my (%tps, %cpu, @others);
    for my $round (0 .. rounds(5)) {
        for my $side ('ours', 'theirs') {
            on_side($side, sub {
                # So that each run finds as few deltas as the one before.
                sql('SELECT meter.fold()');
                sql('VACUUM meter.rollup_pending');
                my $run = run_pgbench($script, scaled($durable eq 'on' ? 4_000 : 10_000), '-c 8 -j 2 -M prepared',
                    "-c synchronous_commit=$durable");
                my $deltas = sql('SELECT count(*) FROM meter.rollup_pending');
                die "record_delta: there are $deltas deltas\n" if ($deltas > 0) != ($side eq 'ours');
                return if $round == 0;
                push @{ $tps{$side} }, $run->{tps};
                push @{ $cpu{$side} }, $run->{cpu};
                push @others, $run->{others};
            });
        }
    }
    my $title = 'record_delta: ' . ($durable eq 'on' ? 'durable' : 'synchronous_commit off');
    add_measure($title, 'transactions/s', \%tps, 1);
    add_measure($title, 'server CPU, ms each', \%cpu, -1);
    printf "   other processes kept %.2f processors busy meanwhile (median; at most %.2f)\n", median(@others),
        percentile(1, @others);
}
sql("DROP DATABASE bench_$_") for 'ours', 'theirs';
1;
