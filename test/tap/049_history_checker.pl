# The checker of histories, and the plan that they follow: made-up histories, right ones and wrong ones.
use strict;
use warnings;
use FindBin;
use Test::More;
use lib "$FindBin::RealBin/../perl";
use Meter::History::Check;
use Meter::History::Log;
use Meter::History::Plan;

my $noon = 1_700_049_600_000_000;
my $day = 86_400_000_000;
my %all = (from => 0, to => 2 * $noon, by => [], day => 0, aggregation => 'sum');

# --- records

sub event { my ($key, $value, %more) = @_; return { user => 'ann', key => $key, value => $value, time => $noon, model => 'm', %more }; }
sub invoke { my ($name, @events) = @_; return { type => 'invoke', operation => $name, events => \@events }; }
sub begin { return { %{ invoke(@_) }, transaction => 1 }; }
sub commit { return { type => 'commit', operation => $_[0] }; }
sub acknowledge { my ($name, @results) = @_; return { type => 'answer', operation => $name, outcome => 'acknowledged', results => \@results }; }
sub give_up { return { type => 'answer', operation => $_[0], outcome => 'failed', rolled_back => 1 }; }
sub unknown { return { type => 'answer', operation => $_[0], outcome => 'unknown' }; }
sub ask { my ($name, %more) = @_; return { type => 'ask', operation => $name, question => { %all, %more } }; }
sub snapshot { return { type => 'snapshot', operation => $_[0] }; }
sub told { my ($name, @rows) = @_; return { type => 'told', operation => $name, answers => [ \@rows ] }; }
sub told_twice { my ($name, @rows) = @_; return { type => 'told', operation => $name, answers => [ map { [$_] } @rows ] }; }
sub total { my ($value, $count) = @_; return [ ('~') x 4, $value, $count ]; }
sub stored { return { type => 'stored', rows => [@_] }; }

# A read of all, that nothing else goes on beside.
sub reading { my ($name, @total) = @_; return (ask($name), told($name, total(@total))); }
# An event that is recorded, and nothing goes on beside it.
sub recorded { my ($name, $id, $event) = @_; return (invoke($name, $event), acknowledge($name, [ $id, 'recorded' ])); }

sub prepared { return { type => 'prepared', operation => $_[0] }; }
sub drop { return { type => 'drop', horizon => $_[0] }; }
sub dropped { return { type => 'dropped', horizon => $_[0] }; }
sub failed_with { my ($name, $error) = @_; return { %{ give_up($name) }, rolled_back => 0, error => $error }; }

sub judge
{
	my $check = Meter::History::Check->new;
	$check->add($_) for @_;
	$check->finish;
	return $check;
}

sub accepts
{
	my ($what, @records) = @_;
	my $check = judge(@records);
	is(join("\n", $check->complaints), '', $what);
	return $check;
}

sub refuses
{
	my ($what, $complaint, @records) = @_;
	my @complaints = judge(@records)->complaints;
	like($complaints[0] // 'no complaint', $complaint, $what);
	is(scalar @complaints, 1, "$what: that alone");
	return;
}

# --- right histories

my @one = recorded('w1', 1, event('a', '0.1'));
my @two = (@one, recorded('w2', 2, event('b', '20000000000000000000.000000000000000002')));
my $both = '20000000000000000000.100000000000000002';

my $check = accepts('nothing at all', ());
is($check->count('reads'), 0, 'and nothing was checked');
$check = accepts('what is recorded is read, to the last digit', reading('r0', 0, 0), @two, reading('r1', $both, 2),
	stored([ 'ann', 'a', 1, 1 ], [ 'ann', 'b', 1, 2 ]));
is_deeply([ map { $check->count($_) } qw(reads reads_explained recorded events_stored) ], [ 2, 2, 2, 2 ], 'and is counted');
for my $seen ([ 0, 0 ], [ '0.1', 1 ])
{
	accepts("a read beside a recording may see it or not: @$seen",
		ask('r1'), invoke('w1', event('a', '0.1')), told('r1', total(@$seen)), acknowledge('w1', [ 1, 'recorded' ]));
	accepts("what is unknown may be there or not: @$seen",
		invoke('w1', event('a', '0.1')), unknown('w1'), reading('r1', @$seen), invoke('w2', event('a', '0.1')),
		acknowledge('w2', [ 1, $seen->[1] ? 'duplicate' : 'recorded' ]), reading('r2', '0.1', 1));
}
accepts('of two operations under way either is seen, or both',
	invoke('w1', event('a', 1), event('b', 2)), invoke('w2', event('c', 4)), map({ reading("r$_->[0]", @$_) } [ 0, 0 ], [ 4, 1 ], [ 7, 3 ]),
	acknowledge('w1', [ 1, 'recorded' ], [ 2, 'recorded' ]), acknowledge('w2', [ 3, 'recorded' ]));
accepts('an event twice in a batch, and one that two send at once', invoke('w1', event('a', 1), event('a', 1)), invoke('w2', event('a', 1)),
	reading('r1', 1, 1), acknowledge('w1', [ 1, 'duplicate' ], [ 1, 'duplicate' ]), acknowledge('w2', [ 1, 'recorded' ]), reading('r2', 1, 1));
accepts('a rolled back event is not read; it is when it comes again', begin('w1', event('a', 1)), give_up('w1'), reading('r1', 0, 0),
	begin('w2', event('a', 1)), commit('w2'), reading('r2', 1, 1), acknowledge('w2', [ 2, 'recorded' ]), stored([ 'ann', 'a', 1, 2 ]));
accepts('groups, days, filters and periods',
	recorded('w1', 1, event('a', 1)), recorded('w2', 2, event('b', 2, user => 'bob', region => 'eu')), recorded('w3', 3, event('c', 4, time => $noon + $day)),
	ask('r1', by => ['user']), told('r1', [qw(~ ann ~ ~ 5 2)], [qw(~ bob ~ ~ 2.00 1)]),
	ask('r2', by => ['region'], day => 1), told('r2', [qw(2023-11-15 ~ ~ ~ 1 1)], [qw(2023-11-15 ~ ~ eu 2 1)], [qw(2023-11-16 ~ ~ ~ 4 1)]),
	ask('r3', user => 'ann', to => $noon + $day), told('r3', total(1, 1)),
	ask('r4', from => $noon + 1, aggregation => 'count'), told('r4', total(1, 1)),
	ask('r5', aggregation => 'max'), told('r5', total(4, 3)));

# --- wrong ones

refuses('a lost event', qr/^r1 .*too little: ~ ~ ~ ~ has 1 events of 0\.1, acknowledged before were 2 of \Q$both\E$/, @two, reading('r1', '0.1', 1));
refuses('a digit lost', qr/too little/, @two, reading('r1', '20000000000000000000.100000000000000001', 2));
refuses('a digit too much', qr/too much/, @two, reading('r1', '20000000000000000000.100000000000000003', 2));
refuses('a count of events that is wrong alone', qr/too much/, @two, reading('r1', $both, 3));
refuses('a double count', qr/too much: ~ ~ ~ ~ has 1 events of 0\.1 more/, @one, reading('r1', '0.2', 2));
refuses('a double count of what is under way', qr/too much/, invoke('w1', event('a', 1)), reading('r1', 2, 2), acknowledge('w1', [ 1, 'recorded' ]));
refuses('usage in another group', qr/too little: ~ ann/, @one, ask('r1', by => ['user']), told('r1', [qw(~ bob ~ ~ 0.1 1)]));
refuses('usage of another day', qr/too little: 2023-11-15/, @one, ask('r1', day => 1), told('r1', [qw(2023-11-14 ~ ~ ~ 0.1 1)]));
refuses('a group in two rows', qr/two rows for ~ ann/, @one, ask('r1', by => ['user']), told('r1', ([qw(~ ann ~ ~ 0.1 1)]) x 2));
refuses('half of a batch', qr/no set of whole operations/, invoke('w1', event('a', 1), event('b', 2)), reading('r1', 1, 1),
	acknowledge('w1', [ 1, 'recorded' ], [ 2, 'recorded' ]));
refuses('the right number of events, but not these', qr/no set of whole operations/, invoke('w1', event('a', 1)), invoke('w2', event('b', 5)),
	invoke('w3', event('c', 2)), reading('r1', 4, 2), map { acknowledge("w$_", [ $_, 'recorded' ]) } 1 .. 3);
refuses('a stale read', qr/^r2 .*an earlier read had 1 of 1$/, invoke('w1', event('a', 1)), reading('r1', 1, 1), reading('r2', 0, 0),
	acknowledge('w1', [ 1, 'recorded' ]));
refuses('a read of what is invoked after it', qr/too much/, reading('r1', 1, 1), recorded('w1', 1, event('a', 1)));
refuses('a read of what is invoked after its snapshot', qr/too much/, ask('r1'), snapshot('r1'), invoke('w1', event('a', 1)), told('r1', total(1, 1)),
	acknowledge('w1', [ 1, 'recorded' ]));
refuses('a read of what is not committed', qr/too much/, begin('w1', event('a', 1)), reading('r1', 1, 1), commit('w1'), acknowledge('w1', [ 1, 'recorded' ]));
refuses('a read of what fails later', qr/too much/, invoke('w1', event('a', 1)), reading('r1', 1, 1), give_up('w1'));
refuses('a rolled back event', qr/too much/, begin('w1', event('a', 1)), give_up('w1'), reading('r1', 1, 1));
refuses('an unknown event twice', qr/too much/, invoke('w1', event('a', 1)), unknown('w1'), reading('r1', 2, 2));
refuses('an unknown event twice, after it was sent again', qr/too much/, invoke('w1', event('a', 1)), unknown('w1'), recorded('w2', 1, event('a', 1)),
	reading('r1', 2, 2));
refuses('two answers under one snapshot', qr/two answers under one snapshot/, invoke('w1', event('a', 1)), ask('r1'),
	told_twice('r1', total(0, 0), total(1, 1)), acknowledge('w1', [ 1, 'recorded' ]));
refuses('two greatest values under one snapshot', qr/two answers under one snapshot/, @one, ask('r1', aggregation => 'max'),
	told_twice('r1', total('0.1', 1), total('0.10001', 1)));
accepts('the same value under one snapshot, written in two ways', @one, ask('r1'), told_twice('r1', total('0.1', 1), total('0.100', 1)));

refuses('recorded twice', qr/^w2: ann\/a is recorded a second time, with id 1/, @one, recorded('w2', 1, event('a', '0.1')));
refuses('a duplicate of nothing', qr/nobody else has sent it/, invoke('w1', event('a', 1)), acknowledge('w1', [ 1, 'duplicate' ]));
refuses('a duplicate of what was rolled back', qr/nobody else has sent it/, begin('w1', event('a', 1)), give_up('w1'), invoke('w2', event('a', 1)),
	acknowledge('w2', [ 1, 'duplicate' ]));
refuses('a retry with another id', qr/has id 2, and before 1/, @one, invoke('w2', event('a', '0.1')), acknowledge('w2', [ 2, 'accepted' ]));
refuses('an id of two events', qr/has id 1, and so has ann\/a/, @one, recorded('w2', 1, event('b', 1)));
refuses('an event that is refused', qr/answered with invalid/, invoke('w1', event('a', 1)), acknowledge('w1', [ '~', 'invalid' ]));
refuses('an error that no strike explains', qr/^w1 failed with XX000/, invoke('w1', event('a', 1)), { %{ give_up('w1') }, error => 'XX000' });
refuses('a deadlock of folds', qr/^a fold failed with 40P01/, { type => 'fold', error => '40P01' });
refuses('no answer', qr/^w1 was never answered/, invoke('w1', event('a', 1)));
refuses('no answer to a read', qr/^r1 was never answered/, ask('r1'));

refuses('an acknowledged event that is not stored', qr/acknowledged and is stored 0 times/, @one, stored());
refuses('one that is stored twice', qr/acknowledged and is stored 2 times/, @one, stored([ 'ann', 'a', 2, 1 ]));
refuses('one that is stored with another id', qr/stored with id 7/, @one, stored([ 'ann', 'a', 1, 7 ]));
refuses('an unknown one that is stored twice', qr/stored 2 times/, invoke('w1', event('a', 1)), unknown('w1'), stored([ 'ann', 'a', 2, 1 ]));
refuses('a rolled back one that is stored', qr/nobody could have committed it/, begin('w1', event('a', 1)), give_up('w1'), stored([ 'ann', 'a', 1, 1 ]));
refuses('one that nobody sent', qr/nobody has sent it/, stored([ 'ann', 'a', 1, 1 ]));

# --- prepared transactions, isolation, deadlocks

accepts('what is left prepared counts from its commit on', begin('w1', event('a', 1)), prepared('w1'), reading('r1', 0, 0), commit('w1'),
	ask('r2'), acknowledge('w1', [ 1, 'accepted' ]), told('r2', total(1, 1)), reading('r3', 1, 1));
accepts('what is rolled back after that never does', begin('w1', event('a', 1)), prepared('w1'), give_up('w1'), reading('r1', 0, 0), stored());
refuses('a read of what is prepared', qr/too much/, begin('w1', event('a', 1)), prepared('w1'), reading('r1', 1, 1), commit('w1'), acknowledge('w1', [ 1, 'accepted' ]));
refuses('a prepared transaction that gets lost', qr/too little/, begin('w1', event('a', 1)), prepared('w1'), commit('w1'), acknowledge('w1', [ 1, 'accepted' ]),
	reading('r1', 0, 0));
refuses('a prepared transaction that is never ended', qr/^w1 was never answered/, begin('w1', event('a', 1)), prepared('w1'));
for my $level ('REPEATABLE READ', 'SERIALIZABLE')
{
	accepts("a serialization failure at $level", { %{ begin('w1', event('a', 1)) }, isolation => $level }, failed_with('w1', '40001'));
	refuses("a deadlock at $level of those that contend for nothing", qr/40P01/, { %{ begin('w1', event('a', 1)) }, isolation => $level }, failed_with('w1', '40P01'));
}
refuses('a serialization failure at READ COMMITTED', qr/^w1 failed with 40001/, begin('w1', event('a', 1)), failed_with('w1', '40001'));
accepts('a deadlock of those that contend', { %{ begin('w1', event('a', 1)) }, contended => 1 }, failed_with('w1', '40P01'));
refuses('a deadlock of a batch', qr/^w1 failed with 40P01/, invoke('w1', event('a', 1), event('b', 1)), failed_with('w1', '40P01'));

# --- dropped events

my $after = $noon + 1;
my @dropped = (@one, drop($after), dropped($after));
accepts('dropped events are usage still', @dropped, reading('r1', '0.1', 1), stored());
refuses('dropped usage', qr/too little/, @dropped, reading('r1', 0, 0));
refuses('usage that is dropped while it is read', qr/too little/, @one, ask('r1'), drop($after), told('r1', total(0, 0)));
refuses('an event that should have been dropped', qr/too old and is stored/, @dropped, stored([ 'ann', 'a', 1, 1 ]));
accepts('one that may be dropped or not', @one, drop($after), stored([ 'ann', 'a', 1, 1 ]));
refuses('a retry of a dropped event that is recorded', qr/too old and is answered with recorded/, invoke('w0', event('b', 1)), unknown('w0'), drop($after), dropped($after),
	invoke('w1', event('b', 1)), acknowledge('w1', [ 1, 'recorded' ]));
refuses('one that counts twice', qr/too much/, @dropped, invoke('w2', event('a', '0.1')), acknowledge('w2', [ '~', 'invalid' ]), reading('r1', '0.2', 2));
refuses('one that is recorded again before the drop has ended', qr/recorded a second time/, @one, drop($after), invoke('w2', event('a', '0.1')),
	acknowledge('w2', [ 1, 'recorded' ]));
accepts('a batch without what is too old', @dropped, invoke('w2', event('a', '0.1'), event('b', 1, time => $after)),
	acknowledge('w2', [ '~', 'invalid' ], [ 2, 'recorded' ]), reading('r1', '1.1', 2), stored([ 'ann', 'b', 1, 2 ]));
my @of_unknown = (@dropped, invoke('w2', event('b', 1), event('c', 2, time => $after), event('d', 4, time => $after)), unknown('w2'));
accepts('one of unknown outcome without it', @of_unknown, reading('r1', '6.1', 3));
accepts('or with it, if it came before the drop', @of_unknown, reading('r1', '7.1', 4));
refuses('but not a part of the rest', qr/no set of whole operations/, @of_unknown, reading('r1', '2.1', 2));
accepts('what is too old fails', @dropped, invoke('w2', event('b', 1)), failed_with('w2', '55000'), reading('r1', '0.1', 1));
refuses('what is not', qr/^w2 failed with 55000/, @dropped, invoke('w2', event('b', 1, time => $after)), failed_with('w2', '55000'));
refuses('an event that is refused before anything is dropped', qr/answered with invalid/, @one, invoke('w2', event('b', 1)), acknowledge('w2', [ '~', 'invalid' ]), drop($after));
$check = accepts('an outcome that is unknown for ever', invoke('w1', event('a', 1)), unknown('w1'), drop($after), dropped($after), invoke('w2', event('a', 1)),
	acknowledge('w2', [ '~', 'invalid' ]), reading('r1', 1, 1), stored());
is($check->count('unresolved'), 0, 'is of an event that is too old');
accepts('a read that needs what is dropped', drop($after), ask('r1'), { type => 'told', operation => 'r1', error => '55000' });
refuses('one that needs nothing of it', qr/^r1 failed with 55000/, drop($after), ask('r1', from => $after), { type => 'told', operation => 'r1', error => '55000' });
my @both_told = (ask('r1'), { %{ told_twice('r1', total('0.1', 1), total(0, 0)) }, plain => 1 });
accepts('the events themselves say less once some are dropped', @dropped, @both_told);
sub keep { return { type => 'keep', kind => $_[0] }; }
sub kept { my ($kind, %more) = @_; return { type => 'kept', kind => $kind, from => $noon, wrong => 0, %more }; }
my ($asked, $answered) = @both_told;
accepts('and to an old snapshot where months are moved', @one, $asked, keep('move'), $answered, kept('move'));
accepts('or were', @one, $asked, keep('move'), kept('move'), $answered);
refuses('but not to one from after that', qr/two answers under one snapshot/, @one, keep('move'), kept('move'), @both_told);
refuses('and not before', qr/two answers under one snapshot/, @one, @both_told);

# --- standby, keeping

my $there = sub { my ($name, @totals) = @_; return ({ %{ ask($name) }, standby => 1 }, told_twice($name, @totals)) };
accepts('a standby may be behind', @one, $there->('r1', total(0, 0), total(0, 0)), $there->('r2', total('0.1', 1)));
refuses('but not with half of a snapshot', qr/two answers under one snapshot/, @one, $there->('r1', total('0.1', 1), total(0, 0)));
accepts('a partition that cannot be made', kept('make', error => '55P03'), kept('make'));
refuses('a deadlock of who makes one', qr/to make failed with 40P01/, kept('make', error => '40P01'));
refuses('a wrong cell', qr/1 cells differ/, kept('verify', wrong => 1));

# --- numbers, the log, the plan

for my $text (qw(0 1 0.1 1000000000000000000 0.000000000000000001 123456789012345678901234567890.123456789012345678))
{
	is(Meter::History::Cells::decimal(Meter::History::Cells::amount($text)), $text, "$text is kept exactly");
}
is(Meter::History::Cells::decimal(Meter::History::Cells::amount('10.500')), '10.5', 'without trailing zeros');

my $path = ($ENV{TESTDATADIR} // '/tmp') . "/history.$$";
mkdir $ENV{TESTDATADIR} if defined $ENV{TESTDATADIR};
my ($writer, $reader) = map { Meter::History::Log->new($path) } 1 .. 2;
$writer->append('ask', operation => 'r1', question => \%all);
$reader->append('told', operation => 'r1', answers => [ [] ]);
is_deeply([ $reader->read_new ], [ { type => 'ask', operation => 'r1', question => \%all }, { type => 'told', operation => 'r1', answers => [ [] ] } ],
	'what is appended is read, in its order');
$writer->append('snapshot', operation => 'r2');
is_deeply([ map { $_->{type} } $reader->read_new ], ['snapshot'], 'and once');
unlink $path;

my $plan = sub { my ($seed, $stream) = @_; my $plan = Meter::History::Plan->new(seed => $seed, stream => $stream, base => $noon);
	return [ map { $plan->operation, $plan->question, $plan->strikes('postmaster', 'cancel') } 1 .. 300 ] };
is_deeply($plan->(7, 'a'), $plan->(7, 'a'), 'a seed gives the same plan again');
my ($first, @others) = map { join '|', map { ref $_ eq 'HASH' && $_->{events} ? map { $_->{value} } @{ $_->{events} } : () } @{ $plan->(@$_) } } [ 7, 'a' ], [ 8, 'a' ], [ 7, 'b' ];
isnt($_, $first, 'another seed or stream gives another one') for @others;
my @operations = grep { $_->{events} } @{ $plan->(7, 'a') };
is(scalar(grep { $_->{value} <= 0 } map { @{ $_->{events} } } @operations), 0, 'each value is positive');
is(scalar(grep { $_->{time} >= $noon + $day || $_->{time} < $noon - 101 * $day } map { @{ $_->{events} } } @operations), 0,
	'no timestamp is a day ahead, or out of the period that is read');
for my $seen (['late', sub { $_[0]{time} < $noon - 40 * $day }], [ 'in the future', sub { $_[0]{time} > $noon } ], [ 'beyond a double', sub { length $_[0]{value} > 20 } ])
{
	cmp_ok(scalar(grep { $seen->[1]->($_) } map { @{ $_->{events} } } @operations), '>', 10, "some events are $seen->[0]");
}

done_testing();
