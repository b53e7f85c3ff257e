# slow: fourteen rounds, with waits for a worker and for new standbys.
# The history of 050_history.pl with a background worker that is ended and comes again, and a synchronous
# standby that takes over when all of the primary's processes are killed: every acknowledged event is there.
#
# METER_SEED and METER_ROUNDS as there; METER_ROUNDS=200 is for a machine that has an hour.
use strict;
use warnings;
use FindBin;
use Test::More;
use lib "$FindBin::RealBin/../perl";
use Meter::History::Run;

my $run = Meter::History::Run->new(seed => $ENV{METER_SEED} || time() . "-$$", rounds => $ENV{METER_ROUNDS} || 14,
	standby => 1, worker => 1);
END
{
	my $status = $?;
	$run->end_clients if $run;
	$? = $status;
}
diag("METER_SEED=$run->{seed} METER_ROUNDS=$run->{rounds}");
$run->run;
done_testing();
