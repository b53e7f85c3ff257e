# Everything ends, and with the right result, in a session whose caches of the catalogs are discarded all
# the time, so that whatever was looked up may have changed since.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "timezone = 'UTC'");
$node->start;
$node->safe_psql('postgres', <<'SQL');
CREATE EXTENSION meter;
CREATE FUNCTION guard_discard_caches() RETURNS void LANGUAGE c STRICT AS 'meter_guard_test';
SELECT meter.create_meter('calls', 'count');
SELECT meter.create_partitions(0, '2026-01-01');
SQL

# By the tests' module, and where the server can, by itself.
my %ways = (module => 'SELECT guard_discard_caches()');
$ways{server} = 'SET debug_discard_caches = 1'
	if $node->safe_psql('postgres', "SELECT max_val::int > 0 FROM pg_settings WHERE name = 'debug_discard_caches'") eq 't';
my $number = 0;
for my $way (sort keys %ways)
{
	++$number;
	# Into a month with a partition, into two, and into the default partition.
	for my $case (
		[ "SELECT meter.record_event('calls', 'u$number', idempotency => 'a', event_time => '2026-02-01') > 0", 't' ],
		[ "SELECT meter.record_event('calls', 'u$number', idempotency => 'b', event_time => '2001-02-01') > 0", 't' ],
		[ "SELECT string_agg(status, ',') FROM meter.record_events(array_fill('calls'::text, '{4}'), array_fill('u$number'::text, '{4}'), NULL, NULL, '{a,c,d,e}', "
			  . "'{2026-02-01,2026-02-02,2026-01-02,2001-03-01}')", 'duplicate,recorded,recorded,recorded' ],
		[ "SET meter.direct_insert = off; SELECT meter.record_event('calls', 'u$number', idempotency => 'f', event_time => '2026-02-01') > 0", 't' ],
		[ "INSERT INTO meter.event_load (event_name, user_id, idempotency, \"timestamp\") VALUES ('calls', 'u$number', 'g', '2026-02-03')", '' ],
		[ "SELECT count(*) FROM meter.list_events('calls', user_id => 'u$number')", '7' ],
		[ "SELECT value FROM meter.usage('calls', '2000-01-01', '2027-01-01', 'u$number')", '7' ],
		[ 'SELECT meter.fold() > 0', 't' ],
		[ "SELECT value FROM meter.usage('calls', '2000-01-01', '2027-01-01', 'u$number')", '7' ],
		[ "SELECT count(*) FROM meter.verify('2000-01-01', '2027-01-01')", '0' ])
	{
		my ($statement, $expected) = @$case;
		my ($status, $out, $err) = $node->psql('postgres', "SET statement_timeout = '120s'; $ways{$way}; $statement");
		$out =~ s/\A\n//;
		is("$out|$err", "$expected|", "$way: $statement");
	}
}
done_testing();
