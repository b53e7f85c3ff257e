# Encodings: a database other than UTF-8 is refused, text that is not valid never arrives, and what
# a client says in another encoding is the same key.
use strict;
use warnings;
use PostgreSQL::Test::Cluster;
use PostgreSQL::Test::Utils;
use Test::More;

my $node = PostgreSQL::Test::Cluster->new('main');
$node->init(extra => [ '--encoding=UTF8', '--no-locale' ]);
$node->start;

for my $encoding (qw(SQL_ASCII LATIN1 EUC_JP))
{
	my $database = 'db_' . lc $encoding;
	$node->safe_psql('postgres', "CREATE DATABASE $database ENCODING '$encoding' TEMPLATE template0");
	my ($status, $out, $err) = $node->psql($database, "\\set VERBOSITY verbose\nCREATE EXTENSION meter");
	isnt($status, 0, "$encoding: the extension is refused");
	like($err, qr/0A000: meter needs a database with the encoding UTF8, not $encoding/, "$encoding: and says why");
	is($node->safe_psql($database, "SELECT count(*) FROM pg_extension WHERE extname = 'meter'"), 0, "$encoding: nothing is left");
}

$node->safe_psql('postgres', "CREATE EXTENSION meter; SELECT meter.create_meter('tokens')");

# A file of statements, as bytes.
sub run_bytes
{
	my ($bytes) = @_;
	my $file = PostgreSQL::Test::Utils::tempdir . '/statements.sql';
	open(my $out, '>:raw', $file) or die $!;
	print $out $bytes;
	close $out;
	my ($stdout, $stderr) = run_command([ 'psql', '-X', '-A', '-t', '-q', '-v', 'VERBOSITY=verbose', '-f', $file, '-d', $node->connstr('postgres') ]);
	return ($stdout, $stderr);
}

my %bad = (
	'a lone continuation byte' => "\x80",
	'a lead byte without its continuation' => "\xc3",
	'an overlong form' => "\xc0\xaf",
	'a surrogate' => "\xed\xa0\x80",
	'beyond Unicode' => "\xf4\x90\x80\x80",
	'a byte that never occurs' => "\xff",
);
for my $what (sort keys %bad)
{
	my $byte = $bad{$what};
	for my $call (
		"meter.record_event('tokens', 'a$byte')",
		"meter.record_event('tokens', 'a', idempotency => '${byte}x')",
		qq(meter.ingest('{"event_name": "tokens", "user_id": "a$byte"}')),
		qq(meter.record_events('[{"event_name": "tokens", "user_id": "a$byte"}]')),
		"meter.record_events('{tokens}', '{a$byte}', NULL, NULL, NULL, NULL)")
	{
		my ($out, $err) = run_bytes("SET client_encoding = 'UTF8'; SELECT $call;\n");
		like($err, qr/22021: invalid byte sequence/, "$what is refused: " . ($call =~ s/\(.*//sr));
	}
}
# The same by way of JSON's escapes, which the server's own check of bytes does not see.
for my $escape ('\ud800', '\udc00', '\ud800\u0041', '\u0000')
{
	my ($out, $err) = run_bytes(qq(SELECT status FROM meter.ingest('{"event_name": "tokens", "user_id": "a$escape"}');\n));
	is($out, 'invalid', "$escape in a payload is invalid") or diag $err;
	($out, $err) = run_bytes(qq(SELECT status FROM meter.record_events('[{"event_name": "tokens", "user_id": "a$escape"}]');\n));
	like($err, qr/22P0[25]: /, "$escape in jsonb is refused");
}
is($node->safe_psql('postgres', 'SELECT count(*) FROM meter.meter_event'), 0, 'nothing was recorded');

# One key in several encodings.
my %said = (UTF8 => "zo\xc3\xab", LATIN1 => "zo\xeb", WIN1252 => "zo\xeb");
my %ids;
for my $encoding (sort keys %said)
{
	my $name = $said{$encoding};
	my ($out, $err) = run_bytes("SET client_encoding = '$encoding'; SELECT meter.record_event('tokens', '$name', 1, ('{\"model\": \"$name\"}')::jsonb, '$name');\n");
	is($err, '', "$encoding: recorded");
	$ids{$out}++;
	($out, $err) = run_bytes("SET client_encoding = '$encoding'; SELECT event_id FROM meter.ingest('{\"event_name\": \"tokens\", \"user_id\": \"$name\", \"dimensions\": {\"model\": \"$name\"}, \"idempotency\": \"$name\"}');\n");
	$ids{$out}++;
	($out, $err) = run_bytes("SET client_encoding = '$encoding'; SELECT user_id FROM meter.list_events('tokens', filter => '{\"model\": \"$name\"}');\n");
	is($out, $name, "$encoding: and comes back as it was said");
}
is(scalar keys %ids, 1, 'one key in every encoding') or diag explain \%ids;
is($node->safe_psql('postgres', 'SELECT count(*), min(octet_length(user_id)) FROM meter.meter_event'), '1|4', 'one event');

done_testing();
