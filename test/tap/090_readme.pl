# README.md, docs/reference.md and docs/corrections.md: what they show is what happens, and the reference knows every
# object there is.
#
# In these a block fenced as sql is run by psql, in order, all of one file in one fresh database:
# those of README.md in one session, as who reads it straight down would, those of the others each
# in a session of its own. A block fenced as text right after it is its exact output, its error
# included; without one, the block must succeed. Other blocks are not run.
use strict;
use warnings;
use Cwd qw(abs_path);
use File::Basename qw(dirname);
use IPC::Run;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $source = $ENV{METER_SOURCE} || abs_path(dirname(__FILE__) . '/../..');
my @files  = ('README.md', map { s{^\Q$source\E/}{}r } sort glob "$source/docs/*.md");

my $node = PostgreSQL::Test::Cluster->new('readme');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->append_conf('postgresql.conf', "timezone = 'UTC'\n");
$node->start;

# The file's sql blocks: the line each starts at, its text, and the output shown for it, if any.
sub blocks
{
	my ($text) = @_;
	my (@blocks, $fence, $last);
	my $line = 0;
	for (split /\n/, $text, -1)
	{
		++$line;
		if (defined $fence)
		{
			if (/^```\s*$/)
			{
				$last  = $fence eq 'sql' ? $blocks[-1] : undef;
				$fence = undef;
			}
			elsif ($fence eq 'sql')  { $blocks[-1]{sql} .= "$_\n"; }
			elsif ($fence eq 'text') { $blocks[-1]{output} .= "$_\n"; }
		}
		elsif (/^```(\w*)\s*$/)
		{
			$fence = $1;
			if    ($fence eq 'sql') { push @blocks, { line => $line, sql => '' }; }
			elsif ($fence eq 'text')
			{
				# Output of nothing would be compared with nothing.
				if   ($last) { $last->{output} = ''; }
				else         { $fence = 'other'; }
			}
			$fence ||= 'other';
		}
		elsif (/\S/) { $last = undef; }
	}
	die "a block is not closed\n" if defined $fence;
	return @blocks;
}

# Trailing blanks, which psql pads its headings with, and blank lines at the end do not count.
sub trimmed
{
	my ($text) = @_;
	$text =~ s/[ \t]+$//mg;
	$text =~ s/\n+\z//;
	return $text;
}

# Runs blocks in one session, errors or not, and returns the output of each.
sub outputs
{
	my ($database, @blocks) = @_;
	my $end    = '--- the block ends ---';
	my $sql    = join '', map { "$_->{sql}\\echo '$end'\n" } @blocks;
	my $output = '';
	IPC::Run::run([ 'psql', '-X', '-q', '-P', 'pager=off', '-d', $node->connstr($database) ],
		'<', \$sql, '>&', \$output);
	my @outputs = split /^$end\n/m, $output, -1;
	pop @outputs;
	return @outputs;
}

# --- the blocks do what is shown

my %text = map { $_ => slurp_file("$source/$_") } @files;
for my $file ('README.md', 'docs/reference.md', 'docs/corrections.md')
{
	my $database = lc($file) =~ s/\W/_/gr;
	$node->safe_psql('postgres', "CREATE DATABASE $database TEMPLATE template0 ENCODING 'UTF8'");
	my @blocks   = blocks($text{$file});
	my @sessions = $file eq 'README.md' ? [@blocks] : map { [$_] } @blocks;
	my @outputs  = map { outputs($database, @$_) } @sessions;
	is(scalar @outputs, scalar @blocks, "$file: each block was run");
	for my $block (@blocks)
	{
		my $output = shift @outputs // '';
		my $failed = $output =~ /^(ERROR|FATAL): /m;
		my $name   = "$file, line $block->{line}";
		if (defined $block->{output})
		{
			is(trimmed($output), trimmed($block->{output}), "$name: the output is what is shown");
		}
		else
		{
			ok(!$failed, "$name: it runs") or diag($output);
		}
	}
}
cmp_ok(scalar(my @all = blocks($text{'README.md'})), '>', 5, 'README.md has blocks to run');

# --- what the files point to is there, and README.md points to every document

for my $file (@files)
{
	for my $target ($text{$file} =~ /\]\(([^)#\s]+)(?:#[^)\s]*)?\)/g)
	{
		next if $target =~ /^\w+:/;
		ok(-e dirname("$source/$file") . "/$target", "$file: there is $target");
	}
}
for my $file (grep { m{^docs/} } @files)
{
	ok($text{'README.md'} =~ /\]\(\Q$file\E\)/, "README.md has a link to $file");
}

# --- docs/architecture.md has every source file, by its name without suffix where it has a header

for my $path (sort glob "$source/src/core/*.[ch]pp $source/src/pg/*.[ch]pp")
{
	my ($stem, $suffix) = $path =~ m{([^/]+)(\.[ch]pp)$};
	ok($text{'docs/architecture.md'} =~ /`\Q$stem\E(\Q$suffix\E)?`/,
		"docs/architecture.md has " . ($path =~ s{^\Q$source\E/}{}r));
}

# --- docs/reference.md knows every object

my $reference = $text{'docs/reference.md'};
my $one_line  = $reference =~ s/\s+/ /gr;
$node->safe_psql('postgres', 'CREATE EXTENSION meter');

# Signatures as the reference writes them: the type names of people, defaults without casts. The
# functions that no one calls by hand, which serve types, aggregates and triggers, need only be
# named.
my $functions = $node->safe_psql('postgres', <<'SQL');
WITH f AS (
    SELECT p.oid, p.proname, p.prokind,
           regexp_replace(regexp_replace(regexp_replace(
               pg_get_function_arguments(p.oid),
               '''::[a-z ]+(\[\])?', '''', 'g'),
               'timestamp with time zone', 'timestamptz', 'g'),
               'NULL::[a-z ]+(\[\])?', 'NULL', 'g') AS arguments,
           p.proretset AND p.prorettype = 'record'::regtype AS table_result,
           (p.prokind = 'f' AND 'internal'::regtype <> ALL (p.proargtypes)
            AND 'meter.aggregate_state'::regtype <> ALL (p.proargtypes)
            AND p.prorettype NOT IN ('meter.aggregate_state'::regtype, 'trigger'::regtype))
           OR p.prokind = 'a' AS called
    FROM pg_depend AS d JOIN pg_proc AS p ON p.oid = d.objid
    WHERE d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
      AND d.refclassid = 'pg_extension'::regclass
      AND d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'meter'))
SELECT proname, called, table_result, arguments FROM f ORDER BY 1, 4
SQL
my $count = 0;
for (split /\n/, $functions)
{
	my ($name, $called, $table_result, $arguments) = split /\|/, $_, 4;
	++$count;
	if ($called eq 't')
	{
		$arguments =~ s/,? OUT .*// if $table_result eq 't';
		ok(index($one_line, "meter.$name($arguments)") >= 0,
			"docs/reference.md has meter.$name($arguments)");
	}
	else
	{
		ok($reference =~ /`meter\.\Q$name\E\b/, "docs/reference.md names meter.$name");
	}
}
cmp_ok($count, '>', 20, 'the extension has functions');

# Every relation and type by its name; every column in the section of its table, as the first cell
# of a row.
my $relations = $node->safe_psql('postgres', <<'SQL');
SELECT c.relname, c.relkind, coalesce(string_agg(a.attname, ' ' ORDER BY a.attnum), '')
FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid
LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
WHERE d.deptype = 'e' AND d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'p', 'v', 'm', 'S')
GROUP BY c.oid ORDER BY 1
SQL
for (split /\n/, $relations)
{
	my ($name, $kind, $columns) = split /\|/;
	ok($reference =~ /`meter\.\Q$name\E`/, "docs/reference.md names the relation meter.$name");
	next if $kind eq 'S' || $name eq 'meter_event_default';
	my ($section) = $reference =~ /^### `meter\.\Q$name\E`\n(.*?)(?=^##|\z)/ms;
	for my $column (split / /, $columns)
	{
		ok(($section // '') =~ /^\| `\Q$column\E` \|/m,
			"docs/reference.md describes the column meter.$name.$column");
	}
}

# --- docs/access.md and the reference say who may call what

my %granted;
$node->safe_psql('postgres', 'CREATE ROLE r_none');
for my $privilege (qw(reader writer admin))
{
	$node->safe_psql('postgres', "CREATE ROLE r_$privilege; SELECT meter.grant_access('r_$privilege', '$privilege')");
	my ($row) = $reference =~ /^\| `$privilege` \|(.*)\|$/m;
	my %named = map { $_ => 1 } ($row // '') =~ /`(\w+)`/g;
	delete @named{qw(org event_load event_load_json)};
	%named = (%named, %granted) if $privilege eq 'admin';
	my %may = map { $_ => 1 } split /\n/, $node->safe_psql('postgres', <<"SQL");
SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'meter'::regnamespace
AND has_function_privilege('r_$privilege', oid, 'EXECUTE') AND NOT has_function_privilege('r_none', oid, 'EXECUTE')
SQL
	is(join(' ', sort keys %named), join(' ', sort keys %may), "docs/reference.md says what a $privilege may call");
	%granted = (%granted, %may);
}
my $access = $text{'docs/access.md'};
for my $name (sort keys %granted)
{
	ok($access =~ /^\|[^|]*`\Q$name\E`/m, "docs/access.md has $name in its table");
}
for my $relation (split /\n/, $node->safe_psql('postgres', <<'SQL'))
SELECT relname FROM pg_class WHERE relnamespace = 'meter'::regnamespace AND relkind IN ('r', 'p', 'v')
AND relname !~ '^(meter_event_|rollup_)'
SQL
{
	ok($access =~ /^\|[^|]*`\Q$relation\E`/m, "docs/access.md has $relation in its table");
}

my $types = $node->safe_psql('postgres', <<'SQL');
SELECT t.typname FROM pg_depend AS d JOIN pg_type AS t ON t.oid = d.objid
WHERE d.deptype = 'e' AND d.classid = 'pg_type'::regclass AND t.typrelid = 0 AND t.typelem = 0
SQL
ok($reference =~ /`meter\.\Q$_\E`/, "docs/reference.md names the type meter.$_")
  for split /\n/, $types;

# Settings with their defaults, bounds and who may set them.
my $settings = $node->safe_psql('postgres', <<'SQL');
LOAD 'meter';
SELECT name, current_setting(name), coalesce(min_val, ''), coalesce(max_val, ''), context
FROM pg_settings WHERE name LIKE 'meter.%' ORDER BY 1
SQL
for (split /\n/, $settings)
{
	my ($name, $default, $min, $max, $context) = split /\|/;
	my ($row) = $reference =~ /^\| `\Q$name\E` \|(.*)$/m;
	my $who = $context eq 'user' ? 'anyone' : 'superuser';
	ok(defined $row, "docs/reference.md has a row for the setting $name");
	like($row // '', qr/`\Q$_\E`/, "the row of $name says $_") for grep { $_ ne '' } $default, $min, $max;
	like($row // '', qr/\b$who\b/, "the row of $name says that $who may set it");
}
cmp_ok(scalar(my @rows = split /\n/, $settings), '>', 3, 'the extension has settings');

done_testing();
