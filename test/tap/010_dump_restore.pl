# slow: it restores many dumps.
# Dump and restore: everything comes back, retries still find their events, access still holds, and
# the copy goes on as the original would.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = PostgreSQL::Test::Cluster->new('source');
$source->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$source->start;

# Which roles get which numbers differs between the servers.
my $target = PostgreSQL::Test::Cluster->new('target');
$target->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$target->start;
$target->safe_psql('postgres', 'CREATE ROLE first_one; DROP ROLE first_one;');

my $roles = <<'SQL';
CREATE ROLE acme_app LOGIN;
CREATE ROLE acme_admin LOGIN;
CREATE ROLE billing LOGIN;
CREATE ROLE "odd ""role" LOGIN;
SQL
$source->safe_psql('postgres', "CREATE ROLE bystander; CREATE ROLE gone LOGIN;\n$roles");

$source->safe_psql('postgres', 'CREATE DATABASE original');
$source->safe_psql('original', <<'SQL');
CREATE EXTENSION meter;
SET client_min_messages = error;
SELECT meter.create_meter('tokens', dimensions => '{model,region}', metadata => '{"a": [1, {"b": null}]}');
SELECT meter.create_meter('calls', 'count', name => 'Calls', currency => 'eur');
SELECT meter.create_meter('seats', 'last');
-- In the default partition: long ago, and of months that are made later.
SELECT meter.record_event('tokens', 'user-' || i % 5, i * 1.000000000000000001, '{"model": "old"}', 'old-' || i,
                          '1999-12-31 23:59:59.999999+00') FROM generate_series(1, 20) i;
SELECT count(*) FROM meter.create_partitions(2, '2025-11-15 00:00:00+00');
-- Around the bounds of months, with keys and without.
SELECT meter.record_event('tokens', 'user-' || i % 7, i + 0.5,
                          jsonb_build_object('model', 'm' || i % 3, 'region', CASE WHEN i % 2 = 0 THEN 'eu' END),
                          CASE WHEN i % 3 > 0 THEN 'key-' || i END,
                          '2025-12-01 00:00:00+00'::timestamptz + (i - 100) * interval '7 hours 1 microsecond',
                          jsonb_build_object('n', i))
FROM generate_series(1, 400) i;
SELECT meter.record_event('calls', E'tab\tquote''back\\slash\nline', dimensions => '{"k": 1.10, "ö": "\u00e9", "t": true}',
                          idempotency => E'\\N', event_time => '2026-02-01 00:00:00+00');
SELECT meter.record_event('calls', 'zoë', 123456789012345678901234567890 - 0.1, idempotency => '01ARZ3NDEKTSV4RRFFQ69G5FAV',
                          event_time => '2026-01-31 23:59:59.999999+00');
SELECT meter.record_event('seats', 'team', -3, event_time => '2026-01-01 00:00:00+00');
SELECT meter.archive_meter('seats');
-- A dense user, so that there are cells for days, too.
SELECT count(*) FROM meter.record_events(array_fill('calls'::text, ARRAY[2000]), array_fill('dense'::text, ARRAY[2000]), NULL, NULL, NULL,
    (SELECT array_agg('2025-12-20 00:00:00+00'::timestamptz + i * interval '17 minutes') FROM generate_series(1, 2000) AS i));
SET meter.org = 'acme';
SELECT meter.create_meter('tokens');
SELECT meter.record_event('tokens', 'zoë', 7, idempotency => 'acme-1', event_time => '2026-01-02 00:00:00+00');
SELECT meter.grant_access('acme_app', 'writer', 'acme');
SELECT meter.grant_access('acme_app', 'reader', 'acme');
SELECT meter.grant_access('acme_admin', 'admin', 'acme');
SELECT meter.grant_access('billing', 'reader');
SELECT meter.grant_access('odd "role', 'writer', 'ünï"cö''de');
SELECT meter.grant_access('gone', 'admin', 'acme');
-- Without its privileges a role can be dropped; its row stays behind.
DROP OWNED BY gone;
DROP ROLE gone;
SQL
is($source->safe_psql('original', 'SELECT count(*) FROM meter.access'), 5, 'a dropped role left its row');

# Cells of every kind, two open generations with deltas in the same cells, and a delta set aside.
my $slow = $source->background_psql('original');
$slow->query_safe("BEGIN; SELECT meter.record_event('tokens', 'user-1', 1000, '{\"model\": \"m1\"}', event_time => '2025-12-05 00:00:00+00')");
$source->safe_psql('original', <<'SQL');
ALTER TABLE meter.rollup ADD CONSTRAINT refuse CHECK (user_id <> 'poison');
SELECT meter.record_event('calls', 'poison', 7, event_time => '2026-01-21 00:00:00+00');
SET client_min_messages = error;
SELECT meter.fold();
ALTER TABLE meter.rollup DROP CONSTRAINT refuse;
SELECT setval('meter.rollup_folded_seq', 100000);
SELECT meter.record_event('calls', 'dense', event_time => '2026-01-10 00:00:00+00');
SELECT meter.fold();
SELECT meter.record_event('tokens', 'user-' || i % 7, 1, '{"model": "m1"}', event_time => '2025-12-05 00:00:00+00') FROM generate_series(1, 30) i;
SQL
$slow->query_safe('COMMIT');
$slow->quit;
is($source->safe_psql('original', <<'SQL'), '-1:1 0:1 1:30|{0,1}|t|t|t|t|t', 'there are deltas of several generations, one set aside, and cells of every kind');
SELECT (SELECT string_agg(generation || ':' || n, ' ' ORDER BY generation) FROM (SELECT generation, count(*) AS n FROM meter.rollup_pending GROUP BY 1) AS g),
    (SELECT recorded FROM meter.rollup_state ORDER BY version DESC LIMIT 1), (SELECT count(*) > 1 FROM meter.rollup WHERE grain = 'm'),
    (SELECT count(*) > 1 FROM meter.rollup WHERE grain = 'd' AND hours IS NOT NULL), (SELECT count(*) > 1 FROM meter.rollup_total WHERE grain = 'd'),
    (SELECT count(*) > 1 FROM meter.rollup_month), (SELECT count(*) > 0 FROM meter.rollup_days)
SQL

# Corrections, and a closed period of which something is late.
$source->safe_psql('original', <<'SQL');
SELECT meter.void_event('tokens', e.user_id, e.idempotency, 'it''s wrong') FROM meter.meter_event e WHERE idempotency IN ('key-1', 'old-3');
SELECT meter.close_period('2026-01-01 00:00:00+00');
SELECT meter.amend_event('tokens', e.user_id, e.idempotency, value => 77.7, reason => E'a tab\t') FROM meter.meter_event e WHERE idempotency = 'key-2';
SQL
is($source->safe_psql('original', "SELECT (SELECT count(*) FROM meter.event_void), (SELECT count(*) > 10 FROM meter.statement), (SELECT count(*) FROM meter.period_close), (SELECT count(*) > 0 FROM meter.late_usage())"), '3|t|3|t', 'there are voids, statements, and something late');

is($source->safe_psql('original', <<'SQL'), '', 'every table and sequence is marked for dump');
SELECT c.oid::regclass FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
WHERE c.relkind IN ('r', 'p', 'S')
  AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'meter')
UNION ALL
-- An identity's sequence depends on its column, not on the extension.
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind = 'S'
  AND c.oid <> ALL (SELECT unnest(extconfig) FROM pg_extension WHERE extname = 'meter')
SQL

# Every row of every table, in order, and what the tables are like.
my $contents = <<'SQL';
SET TimeZone = 'UTC';
SELECT format('SELECT %L, count(*), md5(string_agg(md5(t::text), '','' ORDER BY t::text)) FROM %s t%s',
              c.oid::regclass, c.oid::regclass,
              CASE WHEN c.relname = 'access' THEN ' WHERE role::oid IN (SELECT oid FROM pg_roles)' ELSE '' END)
FROM pg_class c WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind IN ('r', 'p') ORDER BY c.relname
\gexec
SELECT format('SELECT %L, last_value, is_called FROM %s', c.oid::regclass, c.oid::regclass)
FROM pg_class c WHERE c.relnamespace = 'meter'::regnamespace AND c.relkind = 'S' ORDER BY c.relname
\gexec
SELECT inhrelid::regclass, pg_get_expr(relpartbound, c.oid), obj_description(c.oid, 'pg_class'), c.reloptions,
       (SELECT string_agg(indexdef, ';' ORDER BY indexdef) FROM pg_indexes
        WHERE schemaname = 'meter' AND tablename = c.relname),
       (SELECT string_agg(conname || pg_get_constraintdef(k.oid), ';' ORDER BY conname)
        FROM pg_constraint k WHERE conrelid = c.oid)
FROM pg_inherits JOIN pg_class c ON c.oid = inhrelid
WHERE inhparent = 'meter.meter_event'::regclass ORDER BY c.relname;
-- Who may do what, by name.
SELECT p.oid::regprocedure, a.grantee::regrole, a.privilege_type
FROM pg_proc p, aclexplode(p.proacl) a WHERE p.pronamespace = 'meter'::regnamespace
ORDER BY p.oid::regprocedure::text, a.grantee::regrole::text;
SELECT c.oid::regclass, a.grantee::regrole, a.privilege_type
FROM pg_class c, aclexplode(c.relacl) a WHERE c.relnamespace = 'meter'::regnamespace
ORDER BY c.relname, a.grantee::regrole::text, a.privilege_type;
SELECT a.grantee::regrole, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a
WHERE n.nspname = 'meter' ORDER BY a.grantee::regrole::text, a.privilege_type;
SELECT * FROM meter.usage('tokens', '1990-01-01', '2030-01-01', group_by => '{user_id,model}', bucket => 'month');
SELECT * FROM meter.usage_report('1990-01-01', '2030-01-01');
SELECT * FROM meter.usage('calls', '2025-12-25 10:20:30', '2026-01-11 12:13:14', group_by => '{user_id}', bucket => 'day', time_zone => 'Asia/Kolkata');
SELECT 'verify', * FROM meter.verify('1990-01-01', '2030-01-01');
SELECT * FROM meter.late_usage();
SQL
my $expected = $source->safe_psql('original', $contents);
unlike($expected, qr/^verify/m, 'the rollups are right');
like($expected, qr/meter\.meter_event_2025_11\|\d/, 'there are monthly partitions');
like($expected, qr/meter\.meter_event_default\|20\|/, 'the default partition has events');

# A dump as text, without what names the moment or the run, and the rows of each table sorted: where a
# table has had updates, a copy may lie in another order.
sub dump_text
{
	my ($node, $database, @options) = @_;
	my ($out, $err) = run_command([ 'pg_dump', @options, $node->connstr($database) ]);
	is($err, '', "dumping $database says nothing");
	$out =~ s/^\\(un)?restrict .*$//mg;
	$out =~ s/^(COPY [^\n]*;\n)(.*?)^\\\.$/$1 . join("\n", sort split m{\n}, $2) . "\n\\."/mseg;
	return $out;
}
my $expected_dump = dump_text($source, 'original');
my ($dumped_access) = $expected_dump =~ /^COPY meter\.access [^\n]*\n(.*?)^\\\.$/ms;
like($dumped_access, qr/^acme_app\tacme\t/m, 'the dump has the access');
unlike($dumped_access, qr/^\d/m, 'but not that of a dropped role');

my $directory = PostgreSQL::Test::Utils::tempdir;
my $from = $source->connstr('original');
$source->command_ok([ 'pg_dump', '-f', "$directory/plain.sql", $from ], 'plain dump');
$source->command_ok([ 'pg_dump', '--inserts', '-f', "$directory/inserts.sql", $from ], 'plain dump as INSERTs');
$source->command_ok([ 'pg_dump', '-Fc', '-f', "$directory/custom", $from ], 'custom dump');
$source->command_ok([ 'pg_dump', '-Fd', '-j', 2, '-f', "$directory/directory", $from ], 'parallel dump');
$source->command_ok([ 'pg_dump', '--load-via-partition-root', '-f', "$directory/root.sql", $from ],
	'dump by way of the root');
$source->command_ok([ 'pg_dump', '--schema-only', '-f', "$directory/schema.sql", $from ], 'the schema');
$source->command_ok([ 'pg_dump', '--data-only', '-f', "$directory/data.sql", $from ], 'the data');
$source->command_ok([ 'pg_dumpall', '--roles-only', '--no-role-passwords', '-f', "$directory/roles.sql" ], 'the roles');

# The roles of the other server, in another order than they had, so with other numbers.
my $dropped = $source->safe_psql('original', 'SELECT role::oid FROM meter.access WHERE role::oid NOT IN (SELECT oid FROM pg_roles)');
like($dropped, qr/^\d+$/, 'the dropped role is a number');
$target->safe_psql('postgres', join "\n", reverse split /\n/, $roles);

my %restore = (
	plain => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/plain.sql", '-d', $_[0] ] },
	'plain in one transaction' => sub { [ 'psql', '-X', '-q', '-1', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/plain.sql", '-d', $_[0] ] },
	inserts => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/inserts.sql", '-d', $_[0] ] },
	root => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/root.sql", '-d', $_[0] ] },
	custom => sub { [ 'pg_restore', '--exit-on-error', '-d', $_[0], "$directory/custom" ] },
	'custom in one transaction' => sub { [ 'pg_restore', '-1', '-d', $_[0], "$directory/custom" ] },
	'custom in parallel' => sub { [ 'pg_restore', '--exit-on-error', '-j', 2, '-d', $_[0], "$directory/custom" ] },
	'directory in parallel' => sub { [ 'pg_restore', '--exit-on-error', '-j', 2, '-d', $_[0], "$directory/directory" ] },
	'schema, then data' => sub { [ 'psql', '-X', '-q', '-v', 'ON_ERROR_STOP=1', '-o', '/dev/null', '-f', "$directory/schema.sql", '-f', "$directory/data.sql", '-d', $_[0] ] },
);

# Tells in what usage differs from the events, and cells from what they should be.
sub rollups_wrong
{
	return <<'SQL';
WITH ours AS MATERIALIZED (
    SELECT 'tokens' AS event_name, user_id, bucket_start, value, event_count FROM meter.usage('tokens', '1990-01-01', '2030-01-01', group_by => '{user_id}', bucket => 'month')
    UNION ALL SELECT 'calls', user_id, bucket_start, value, event_count FROM meter.usage('calls', '2025-12-25 10:20:30+00', '2030-01-01', group_by => '{user_id}', bucket => 'day')),
plain AS (
    SELECT event_name, user_id, date_trunc(CASE event_name WHEN 'tokens' THEN 'month' ELSE 'day' END, "timestamp", 'UTC') AS t,
           CASE event_name WHEN 'tokens' THEN sum(value) ELSE count(*) END, count(*)
    FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id
    WHERE org = 'default' AND (event_name = 'tokens' OR event_name = 'calls' AND "timestamp" >= '2025-12-25 10:20:30+00')
        AND NOT EXISTS (SELECT FROM meter.event_void v WHERE v.event_id = e.id) GROUP BY event_name, user_id, t)
SELECT 'usage', * FROM (TABLE ours EXCEPT ALL TABLE plain) AS t UNION ALL SELECT 'plain', * FROM (TABLE plain EXCEPT ALL TABLE ours) AS t;
SELECT * FROM meter.verify('1990-01-01', '2030-01-01');
SQL
}

# What works as before, once restored. Writes.
sub check_working
{
	my ($node, $database, $name) = @_;
	my $sql = sub { $node->safe_psql($database, $_[0]) };
	my $as = sub {
		my ($role, $statement) = @_;
		$role =~ s/"/""/g;
		my ($status, $out, $err) = $node->psql($database, "SET ROLE \"$role\"; $statement");
		return $status == 0 ? $out : $err;
	};

	# Retries.
	my $retried = $sql->(<<'SQL');
SELECT count(*) FROM meter.meter_event e JOIN meter.meter m ON m.id = e.meter_id
WHERE idempotency IS NOT NULL AND archived_at IS NULL AND org = 'default' AND e.id NOT IN (SELECT replaced_by FROM meter.event_void WHERE replaced_by IS NOT NULL) AND id_again(m.event_name, e) <> e.id
SQL
	is($retried, 0, "$name: each retry answers with its event");
	my $before = $sql->('SELECT count(*), max(id) FROM meter.meter_event');
	my ($events, $last) = split /\|/, $before;
	is($sql->(<<'SQL'), 'duplicate|1|1', "$name: a batch too");
SELECT status, count(*), count(DISTINCT event_id) FROM meter.record_events(
    '[{"event_name": "tokens", "user_id": "user-1", "value": 1.5, "dimensions": {"model": "m1"}, "idempotency": "key-1"}]')
GROUP BY status
SQL
	my ($status, $out, $err) = $node->psql($database, "SELECT meter.record_event('tokens', 'user-1', 2.5, idempotency => 'key-1')");
	like($err, qr/idempotency key "key-1" was used for another event/, "$name: a conflict is one");
	is($sql->('SELECT count(*) FROM meter.meter_event'), $events, "$name: nothing was written");

	# New events, meters, partitions.
	cmp_ok($sql->("SELECT meter.record_event('tokens', 'new', event_time => '2026-01-15 00:00:00+00')"), '>', $last,
		"$name: a new event has a new id");
	is($sql->("SELECT tableoid::regclass FROM meter.meter_event WHERE user_id = 'new'"), 'meter.meter_event_2026_01',
		"$name: and lies in its partition");
	is($sql->("SELECT id > (SELECT max(id) FROM meter.meter) FROM meter.create_meter('new')"), 't', "$name: a new meter too");
	($status, $out, $err) = $node->psql($database, "SELECT meter.record_event('seats', 'team')");
	like($err, qr/meter "seats" is archived/, "$name: an archived meter is");
	is($sql->("SELECT p FROM meter.create_partitions(0, '2025-09-01 00:00:00+00') p ORDER BY p::text"),
		"meter.meter_event_2025_09\nmeter.meter_event_2025_10", "$name: further partitions can be made");
	is($sql->("SELECT meter.record_event('tokens', 'later', event_time => '2025-09-30 23:59:59.999999+00');
	           SELECT tableoid::regclass FROM meter.meter_event WHERE user_id = 'later'") =~ s/^\d+\n//r,
		'meter.meter_event_2025_09', "$name: and used");

	# Rollups: what is recorded now adds to what was, before and after folds, which go on with the generations.
	is($sql->(rollups_wrong()), '', "$name: usage is exact with what was recorded since");
	is($sql->("SELECT array_agg(DISTINCT p.generation) FROM meter.rollup_pending AS p WHERE user_id IN ('new', 'later')"), '{1}', "$name: recorded into the latest generation");
	cmp_ok($sql->('SELECT meter.fold()'), '>=', 33, "$name: what was pending is folded");
	is($sql->('SELECT recorded FROM meter.rollup_state ORDER BY version DESC LIMIT 1'), '{1}', "$name: which closes the generation before");
	is($sql->("SELECT count(*), max(generation) FROM meter.rollup_pending"), '1|-1', "$name: all but what was set aside");
	is($sql->(rollups_wrong()), '', "$name: usage is exact");
	$sql->("SELECT setval('meter.rollup_folded_seq', 100000); SELECT meter.record_event('tokens', 'new', 3, event_time => '2026-01-15 00:00:00+00'); SELECT meter.fold();
	        SELECT meter.record_event('tokens', 'new', 4, event_time => '2026-01-15 00:00:00+00')");
	is($sql->(rollups_wrong()), '', "$name: and over again, in a new generation");
	is($sql->("SELECT meter.rebuild('2026-01-21', '2026-01-22', 'calls') > 0; SELECT count(*) FROM meter.rollup_pending WHERE generation < 0"), "t\n0", "$name: a rebuild takes what was set aside");
	is($sql->(rollups_wrong()), '', "$name: and usage is exact");

	# Access.
	is($as->('acme_app', "SET meter.org = 'default'; SELECT org FROM meter.list_meters()"), 'acme', "$name: a bound role stays in its org");
	is($as->('acme_app', "SELECT meter.record_event('tokens', 'zoë', 7, idempotency => 'acme-1') = (SELECT id FROM meter.list_events('tokens'))"),
		't', "$name: it records there");
	like($as->('acme_app', "SELECT meter.create_meter('x')"), qr/permission denied/, "$name: a writer defines no meters");
	like($as->('acme_app', 'SELECT count(*) FROM meter.meter_event'), qr/permission denied/, "$name: nor reads the tables");
	like($as->('billing', 'SELECT count(*) FROM meter.meter_event'), qr/^\d+$/, "$name: an unbound reader does");
	like($as->('billing', "SELECT meter.record_event('tokens', 'x')"), qr/permission denied/, "$name: but records nothing");
	is($as->('acme_admin', "SELECT org FROM meter.create_meter('x')"), 'acme', "$name: an admin defines meters of its org");
	is($as->('odd "role', "SELECT count(*) FROM meter.list_meters()"), 0, "$name: a role of an odd name has its odd org");
	like($as->('bystander', 'SELECT * FROM meter.list_meters()'), qr/permission denied for schema meter/, "$name: others have nothing");
	$sql->("SELECT meter.revoke_access('acme_app')");
	like($as->('acme_app', 'SELECT * FROM meter.list_meters()'), qr/permission denied/, "$name: access is taken back");
	is($sql->("SELECT meter.grant_access('bystander', 'reader', 'beta');
	           SELECT count(*) FROM meter.access WHERE role::oid NOT IN (SELECT oid FROM pg_roles)"), "\n0",
		"$name: a grant clears away what dropped roles left");
	like($as->('bystander', "SELECT meter.create_meter('y')"), qr/permission denied/, "$name: the new one has no more than granted");
}

my $helper = <<'SQL';
CREATE FUNCTION public.id_again(event_name text, e meter.meter_event) RETURNS bigint LANGUAGE sql AS $$
    SELECT meter.record_event(event_name, e.user_id, e.value, e.dimensions, e.idempotency, e."timestamp", e.metadata)
$$;
SQL

my $number = 0;
my $checked_target = 0;
for my $name (sort keys %restore)
{
	# Beside the original, where the roles are the same; and on the other server.
	for my $node ($source, $target)
	{
		$target->safe_psql('postgres', 'CREATE ROLE bystander') if $node == $target && !$checked_target++;
		my $database = 'copy_' . ++$number;
		my $label = $name . ($node == $target ? ', elsewhere' : '');
		$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0");
		my ($out, $err) = run_command($restore{$name}->($node->connstr($database)));
		is($err, '', "$label: restored without a message");
		is($node->safe_psql($database, $contents), $expected, "$label: all rows, sequences, partitions and grants are the same");
		is(dump_text($node, $database), $expected_dump, "$label: its dump is the same");
		$node->safe_psql($database, $helper);
		check_working($node, $database, $label);
		$node->safe_psql('postgres', "DROP DATABASE $database");
	}
}
is($source->safe_psql('original', $contents), $expected, 'the original is as it was');

# --- DROP EXTENSION and CREATE EXTENSION, in a session that has used it before

my ($status, $out, $err) = $source->psql('original', 'DROP EXTENSION meter');
is($status, 0, 'the extension can be dropped') or diag $err;
is($source->safe_psql('original', "SELECT count(*) FROM pg_class WHERE relnamespace = 'meter'::regnamespace"), 0,
	'its partitions go with it');

my $again = <<'SQL';
CREATE EXTENSION meter;
SELECT id FROM meter.create_meter('tokens', dimensions => '{model}');
SELECT meter.grant_access('acme_app', 'writer', 'acme');
SET SESSION AUTHORIZATION acme_app;
SELECT status FROM meter.record_events('[{"event_name": "tokens", "user_id": "a"}]');
RESET SESSION AUTHORIZATION;
SELECT meter.record_event('tokens', 'ann', 5, '{"model": "a"}', 'k');
SELECT meter.record_event('tokens', 'ann', 5, '{"model": "a"}', 'k');
SELECT status FROM meter.record_events('[{"event_name": "tokens", "user_id": "ann", "idempotency": "j"},
                                         {"meter_id": 1, "user_id": "ann", "idempotency": "j"}]');
SELECT count(*) FROM meter.create_partitions(0, '2025-12-01 00:00:00+00') WHERE create_partitions::text LIKE '%2025_12';
SELECT meter.record_event('tokens', 'ann', 2, event_time => '2025-12-31 00:00:00+00');
SELECT value, event_count FROM meter.usage('tokens', '2020-01-01', 'infinity');
SELECT user_id, value FROM meter.list_events('tokens', max_rows => 1);
SELECT event_name, archived_at IS NULL FROM meter.list_meters();
SELECT dimensions FROM meter.add_dimension('tokens', 'region');
DROP EXTENSION meter;
SQL
# The year 9999 instead of infinity, which is no bound.
$again =~ s/'infinity'/'9999-01-01'/;
# Months with events in the default partition are named in a warning.
$again = "SET client_min_messages = error;\n$again";
$source->safe_psql('original', 'DROP SCHEMA meter CASCADE');
my $once = $source->safe_psql('original', $again);
like($once, qr/^1\n\ninvalid\n1\n1\nrecorded\nduplicate\n1\n/, 'a first time') or diag $once;
is($source->safe_psql('original', "$again$again$again"), "$once\n$once\n$once", 'and again, in one session: nothing of before is remembered');
is($source->safe_psql('original', "BEGIN; $again ROLLBACK; $again"), "$once\n$once", 'and after a rolled back creation');

done_testing();
