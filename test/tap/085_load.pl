# slow: it loads large files.
# A load through COPY: its progress can be looked at, and after an abort or a crash it is run again,
# and continues, and counts nothing twice.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;
use IPC::Run ();
use Time::HiRes qw(usleep);

my ($chunks, $lines) = (4, 30_000);
my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;
$node->safe_psql('postgres', <<SQL);
CREATE EXTENSION meter;
SELECT meter.create_meter('calls', 'count', '{model}');
SELECT count(*) FROM meter.create_partitions(0, '2026-01-01 00:00:00+00');
SQL

# Files as `split` would make them, the one with CSV, the other with JSON.
my $directory = PostgreSQL::Test::Utils::tempdir;
my ($csv_total, $json_total) = ('', '');
for my $chunk (1 .. $chunks)
{
	my ($csv, $json) = ('', '');
	for my $line (1 .. $lines)
	{
		my ($key, $user, $model) = ("$chunk-$line", 'user-' . $line % 101, 'model-' . $line % 3);
		my $time = sprintf('2026-02-%02dT%02d:%02d:00Z', 1 + $line % 28, $line % 24, $line % 60);
		$csv .= qq(calls,$user,$key,$time,"{""model"": ""$model""}"\n);
		$json .= qq({"event_name": "calls", "user_id": "$user", "idempotency": "json-$key", "timestamp": "$time", )
		  . qq("dimensions": {"model": "$model"}}\n);
	}
	append_to_file("$directory/$chunk.csv", $csv);
	append_to_file("$directory/$chunk.ndjson", $json);
}

my $copy = 'meter.event_load (event_name, user_id, idempotency, "timestamp", dimensions)';
my $usage = "SELECT event_count FROM meter.usage('calls', '2026-01-01', '2026-04-01')";
sub load { return $node->psql('postgres', "\\copy $copy FROM '$directory/$_[0].csv' CSV") }

# Starts to load half of a file, and returns once its progress is seen.
my ($in, $out, $err) = ('', '', '');
sub load_half
{
	my ($file) = @_;
	($in, $out, $err) = ('', '', '');
	my $psql = IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres') ], '<', \$in, '>', \$out, '2>', \$err);
	$in = "COPY $copy FROM STDIN CSV;\n" . join '', (split /^/, slurp_file($file))[ 0 .. $lines / 2 - 1 ];
	my ($seen, $unchanged, $asked) = (0, 0, 0);
	# Until all of it has been read: psql must not end while it is still being written to.
	while ($unchanged < 4)
	{
		$psql->pump_nb;
		my $before = $seen;
		$seen = $node->safe_psql('postgres', "SELECT coalesce(max(tuples_processed), 0) FROM pg_stat_progress_copy WHERE relid = 'meter.event_load'::regclass");
		$unchanged = $seen > $lines / 3 && $seen == $before ? $unchanged + 1 : 0;
		die 'no progress is seen' if ++$asked > 3000;
		usleep(50_000);
	}
	cmp_ok($seen, '>', $lines / 3, 'progress is seen in pg_stat_progress_copy');
	return $psql;
}

my $psql = load_half("$directory/1.csv");
is($node->safe_psql('postgres', $usage), 0, 'nothing is seen of a load that has not ended');
$node->safe_psql('postgres', "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy");
$psql->finish;
like($err, qr/terminating connection/, 'the load is terminated');
is($node->safe_psql('postgres', $usage), 0, 'a load that is terminated leaves nothing');

# Some of the files, and a crash within one.
is((load($_))[0], 0, "file $_ is loaded") for 1, 2;
$psql = load_half("$directory/3.csv");
$node->stop('immediate');
eval { $psql->finish };
$node->start;
is($node->safe_psql('postgres', $usage), 2 * $lines, 'after a crash there is what was acknowledged');

# All of it again, from the start.
for my $chunk (1 .. $chunks)
{
	my ($code, $stdout, $stderr) = load($chunk);
	is($code, 0, "file $chunk is loaded again");
	if ($chunk <= 2)
	{
		like($stderr, qr/$lines of $lines events had been recorded before/, 'and what was there is told');
	}
	else
	{
		is($stderr, '', 'and there was nothing of it');
	}
}
is($node->safe_psql('postgres', $usage), $chunks * $lines, 'every event counts once');

# The same with JSON, through the server's own COPY, and by two at once.
my @loads = map {
	my ($output, $error) = ('', '');
	IPC::Run::start([ 'psql', '-X', '-d', $node->connstr('postgres'), '-c',
		"COPY meter.event_load_json FROM '$directory/1.ndjson' (FORMAT csv, QUOTE E'\\x01', DELIMITER E'\\x02')" ],
		'>', \$output, '2>', \$error)
} 1 .. 2;
ok($_->finish, 'a load beside another one of the same file ends well') for @loads;
is($node->safe_psql('postgres', $usage), $chunks * $lines + $lines, 'every event counts once');
$node->safe_psql('postgres', 'SELECT meter.fold()');
is($node->safe_psql('postgres', $usage), $chunks * $lines + $lines, 'after a fold too');
is($node->safe_psql('postgres', "SELECT count(*) FROM meter.verify('2026-01-01', '2026-04-01')"), 0, 'and cells are right');

$node->stop;
done_testing();
