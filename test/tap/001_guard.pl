# slow: it fails in each way 50,000 times.
# The boundary between C++ exceptions and PostgreSQL errors (src/pg/guard.hpp): whatever fails, the
# error arrives whole, nothing leaks, and the server lives. Each way to fail is taken 50,000 times
# in one server process.
use strict;
use warnings;
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('guard');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;

my %functions = (
	guard_throw => 'text, text, text, text',
	guard_call_sql => 'text',
	guard_silence => 'boolean',
	map { $_ => '' }
	  qw(guard_throw_runtime_error guard_throw_int guard_new_out_of_memory
	  guard_resource_out_of_memory guard_palloc_out_of_memory guard_palloc_beyond_limit
	  guard_copy_out_of_memory guard_call_error guard_nested_call_error guard_plain_error
	  guard_plain_throw guard_throw_elsewhere guard_cancel guard_work_for_ever
	  guard_error_while_held));
my %returning = (
	guard_kinds => 'text',
	guard_holdoff => 'text',
	guard_holdoff_counts => 'int',
	guard_live_objects => 'int',
	guard_heap_bytes => 'bigint');
$node->safe_psql('postgres', join "\n",
	(map { "CREATE FUNCTION $_($functions{$_}) RETURNS void LANGUAGE c STRICT AS 'meter_guard_test';" }
		  sort keys %functions),
	(map { "CREATE FUNCTION $_() RETURNS $returning{$_} LANGUAGE c AS 'meter_guard_test';" }
		  sort keys %returning));

# What a handler sees of the error of a statement: SQLSTATE, message, detail, hint and five more
# fields, in one text. The context is left out: it also names the callers.
$node->safe_psql('postgres', <<'SQL');
CREATE FUNCTION caught(statement text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    a text; b text; c text; d text; e text; f text; g text; h text; i text;
BEGIN
    EXECUTE statement;
    RETURN 'no error';
EXCEPTION WHEN OTHERS OR query_canceled THEN
    GET STACKED DIAGNOSTICS a = RETURNED_SQLSTATE, b = MESSAGE_TEXT, c = PG_EXCEPTION_DETAIL,
        d = PG_EXCEPTION_HINT, e = SCHEMA_NAME, f = TABLE_NAME, g = COLUMN_NAME, h = PG_DATATYPE_NAME,
        i = CONSTRAINT_NAME;
    RETURN concat_ws('|', a, b, c, d, e, f, g, h, i);
END
$$;

-- Fails `rounds` times and returns how many of the errors were not the expected one.
CREATE FUNCTION fail(statement text, expected text, rounds int) RETURNS int LANGUAGE plpgsql AS $$
DECLARE
    wrong int := 0;
BEGIN
    FOR round IN 1..rounds LOOP
        IF caught(statement) IS DISTINCT FROM expected THEN
            wrong := wrong + 1;
        END IF;
    END LOOP;
    RETURN wrong;
END
$$;

-- The process's memory: MemoryContexts, the heap of malloc, resident set, in kilobytes.
CREATE FUNCTION memory(OUT contexts bigint, OUT heap bigint, OUT resident bigint) LANGUAGE plpgsql AS $$
BEGIN
    SELECT sum(total_bytes) / 1024 INTO contexts FROM pg_backend_memory_contexts;
    heap := guard_heap_bytes() / 1024;
    resident := substring(pg_read_file('/proc/' || pg_backend_pid() || '/status') FROM 'VmRSS:\s+(\d+)');
END
$$;
SQL

my $postmaster = slurp_file($node->data_dir . '/postmaster.pid');

# --- each error once: every field arrives

my $full = '23514|the message 1|the detail|the hint|the schema|the table|the column|the type|the constraint';
my %sqlstates = (
	invalid_parameter => '22023',
	invalid_text => '22P02',
	invalid_binary => '22P03',
	undefined_object => '42704',
	not_in_state => '55000',
	duplicate_object => '42710',
	dependent_objects => '2BP01',
	unique_violation => '23505',
	limit_exceeded => '54000',
	not_supported => '0A000',
	over_limit => 'MT001',
	out_of_range => '22003',
	corrupt => 'XX001');
my @errors = (
	(map { [ "SELECT guard_throw('$_', 'message ä', 'detail', 'hint')", "$sqlstates{$_}|message ä|detail|hint|||||" ] }
		  sort keys %sqlstates),
	[ "SELECT guard_throw('invalid_parameter', 'alone', '', '')", '22023|alone|||||||' ],
	[ "SELECT guard_throw('invalid_parameter', '100%s %n', '%d', '%m')", '22023|100%s %n|%d|%m|||||' ],
	[ "SELECT guard_throw('invalid_parameter', repeat('x', 100000), '', '')", '22023|' . ('x' x 100000) . '|||||||' ],
	[ 'SELECT guard_throw_runtime_error()', 'XX000|a runtime error|||||||' ],
	[ 'SELECT guard_throw_int()', 'XX000|unexpected exception of an unknown type|||||||' ],
	[ 'SELECT guard_new_out_of_memory()', '53200|out of memory|||||||' ],
	[ 'SELECT guard_resource_out_of_memory()', '53200|out of memory|||||||' ],
	[ 'SELECT guard_palloc_beyond_limit()', 'XX000|invalid memory alloc request size 1073741824|||||||' ],
	[ 'SELECT guard_call_error()', $full ],
	[ 'SELECT guard_nested_call_error()', $full ],
	[ 'SELECT guard_plain_error()', $full ],
	[ 'SELECT guard_plain_throw()', '54000|too much|||||||' ],
	[ 'SELECT guard_throw_elsewhere()', '54000|' . ('e' x 3000) . '|||||||' ],
	[ "SELECT guard_call_sql('SELECT 1/0')", '22012|division by zero|||||||' ],
	[ "SELECT guard_call_sql('SELECT guard_throw(''unique_violation'', ''inner'', ''d'', ''h'')')", '23505|inner|d|h|||||' ],
	[ "SELECT guard_call_sql('SELECT 1')", 'no error' ],
	[ 'SELECT guard_cancel()', '57014|canceling statement due to user request|||||||' ],);
is( join(',', sort split /,/, $node->safe_psql('postgres', 'SELECT guard_kinds()')),
	join(',', sort keys %sqlstates),
	'each kind of error has its SQLSTATE here');
for my $error (@errors)
{
	my ($statement, $expected) = @$error;
	my ($found, $live) = split /\n/, $node->safe_psql('postgres', "SET client_encoding = 'UTF8';\n"
		  . 'SELECT caught($q$' . $statement . "\$q\$);\nSELECT guard_live_objects();");
	is($found, $expected, "$statement: the error arrives whole") if length $expected < 200;
	ok($found eq $expected, "$statement: the error arrives whole") if length $expected >= 200;
	is($live, 0, "$statement: no object lives");
}

# The detail names the context, whose name is not ours to promise.
like($node->safe_psql('postgres', "SELECT caught('SELECT guard_palloc_out_of_memory()')"),
	qr/^53200\|out of memory\|Failed on request of size 70368744177664 in memory context/,
	"PostgreSQL's own out of memory arrives whole");
is( $node->safe_psql('postgres', "SELECT caught('SELECT guard_copy_out_of_memory()');\n"
		  . "SELECT guard_live_objects();\nSELECT caught('SELECT guard_call_error()');"),
	"53200|out of memory|||||||\n0\n$full",
	'an error too large to be copied is out of memory, and the next one arrives whole');

# --- the interrupt holdoff counts, and the error context stack

is($node->safe_psql('postgres', 'SELECT guard_holdoff()'), 'caught 1: 1 1, 0 0',
	'interrupts that were held before a caught error are held after it');
is( $node->safe_psql('postgres',
		"SELECT caught('SELECT guard_error_while_held()');\nSELECT guard_holdoff_counts();"),
	"$full\n0", 'after an error that leaves no interrupts are held');
my ($code, $out, $err) = $node->psql('postgres', 'SELECT guard_throw_elsewhere()');
unlike($err, qr/frame that is gone/, 'the error context of a frame that is gone is not called');

# --- each 50,000 times in one server process

my $rounds = 50_000;
my $warm_up = 1_000;

# What the memory may grow by over 49,000 errors, in kilobytes: less than 6 bytes an error. The
# resident set also holds pages that the process touches for the first time.
my %tolerance = (contexts => 64, heap => 256, resident => 2048);

my @loops = (
	[ 'an error in C++', "SELECT guard_throw('invalid_parameter', 'message', 'detail', 'hint')", '22023|message|detail|hint|||||' ],
	[ 'an unknown exception in C++', 'SELECT guard_throw_int()', 'XX000|unexpected exception of an unknown type|||||||' ],
	[ 'an error while another memory context is current', 'SELECT guard_throw_elsewhere()', '54000|' . ('e' x 3000) . '|||||||' ],
	[ 'an error in PostgreSQL called from C++', 'SELECT guard_call_error()', $full ],
	[ 'an error in a query run from C++', "SELECT guard_call_sql('SELECT 1/0')", '22012|division by zero|||||||' ],
	[ 'an error in PostgreSQL below plain frames', 'SELECT guard_plain_error()', $full ],
	[ 'out of memory in C++', 'SELECT guard_new_out_of_memory()', '53200|out of memory|||||||' ],
	[ 'out of memory in a memory resource', 'SELECT guard_resource_out_of_memory()', '53200|out of memory|||||||' ],
	[ "out of memory in PostgreSQL called from C++", 'SELECT guard_palloc_out_of_memory()',
		'53200|out of memory|Failed on request of size 70368744177664 in memory context "ExprContext".||||||' ],
	[ 'a query cancel', 'SELECT guard_cancel()', '57014|canceling statement due to user request|||||||' ],);

my $script = "SELECT pg_backend_pid();\n";
for my $loop (@loops)
{
	my ($name, $statement, $expected) = @$loop;
	my $call = "fail(\$q\$$statement\$q\$, '$expected'";
	$script .= "SELECT guard_silence(true);\n" if $name =~ /out of memory/;
	$script .= "SELECT * FROM memory();\n";    # warms up memory() itself
	$script .= "SELECT $call, $warm_up);\nSELECT * FROM memory();\n";
	$script .= "SELECT $call, " . ($rounds - $warm_up) . ");\nSELECT * FROM memory();\n";
	$script .= "SELECT guard_live_objects();\n";
	$script .= "SELECT guard_silence(false);\n" if $name =~ /out of memory/;
}
$script .= "SELECT pg_backend_pid();\n";
my @lines = grep { $_ ne '' } split /\n/, $node->safe_psql('postgres', $script);

my $pid = shift @lines;
for my $loop (@loops)
{
	my $name = "$rounds times $loop->[0]";
	my (undef, $wrong_first, $before, $wrong, $after, $live) = splice @lines, 0, 6;
	is($wrong_first + $wrong, 0, "$name: each error arrived whole");
	is($live, 0, "$name: no object lives");
	my @before = split /\|/, $before;
	my @after = split /\|/, $after;
	my $index = 0;
	for my $what (qw(contexts heap resident))
	{
		my $growth = $after[$index] - $before[$index];
		cmp_ok($growth, '<=', $tolerance{$what}, "$name: $what grew by $growth kB");
		$index++;
	}
}
is(shift @lines, $pid, 'all in one server process');

# --- a query cancel from another session

my ($cancelled_out, $cancelled_err) = ('', '');
my $session = IPC::Run::start(
	[
		'psql', '-XAtq', '-d', $node->connstr('postgres'), '-v', 'VERBOSITY=verbose',
		map { ('-c', $_) } 'SELECT pg_backend_pid()', 'SELECT guard_work_for_ever()',
		'SELECT guard_live_objects()', 'SELECT pg_backend_pid()'
	],
	'>', \$cancelled_out, '2>', \$cancelled_err, IPC::Run::timeout(120));
ok( $node->poll_query_until('postgres',
		"SELECT count(*) = 1 FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT guard_work_for_ever()'"),
	'a session is at work in C++');
is( $node->safe_psql('postgres',
		"SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT guard_work_for_ever()'"),
	't', 'it is cancelled');
$session->finish;
like($cancelled_err, qr/57014: canceling statement due to user request/, 'the cancel arrives as one');
like($cancelled_out, qr/^(\d+)\n0\n\1\n$/, 'the session lives, and no object in it');

# --- the server is the one that was started

is(slurp_file($node->data_dir . '/postmaster.pid'), $postmaster, 'the server is the same');
my $log = slurp_file($node->logfile);
unlike($log, qr/PANIC/, 'no PANIC in the log');
unlike($log, qr/terminated by signal/, 'no server process was terminated by a signal');
unlike($log, qr/all server processes terminated/, 'the server did not restart');

$node->stop;
done_testing();
