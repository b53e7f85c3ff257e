# slow: it records under load, and breaks in.
# A history of recorders, folders and readers over a server whose processes are killed, and what a
# checker has to say of it: each acknowledged event is counted once, from then on and for ever, no
# other is, and every read of usage is exact. Transactions fail to serialize and deadlock, are left
# prepared over crashes, and old events are dropped meanwhile. 051_history_failover.pl goes on for longer,
# with a background worker and a standby.
#
# METER_SEED repeats the operations of an earlier run (not how they interleave), METER_ROUNDS sets for
# how many rounds of strikes it goes on. What it does not show: fsync is off, since it is processes
# that are killed, not the machine.
use strict;
use warnings;
use FindBin;
use Test::More;
use lib "$FindBin::RealBin/../perl";
use Meter::History::Run;

my $run = Meter::History::Run->new(seed => $ENV{METER_SEED} || time() . "-$$", rounds => $ENV{METER_ROUNDS} || 6);
END
{
	my $status = $?;
	$run->end_clients if $run;
	$? = $status;
}
diag("METER_SEED=$run->{seed} METER_ROUNDS=$run->{rounds}");
$run->run;
done_testing();
