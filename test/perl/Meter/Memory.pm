# How much memory a server process takes.
package Meter::Memory;
use strict;
use warnings;
use Exporter qw(import);

our @EXPORT_OK = qw(peak_of_session);

# An SQL expression: kB of the session's own memory, at the most so far: the peak without the shared part.
sub peak_of_session
{
	return q{(SELECT sum(CASE WHEN l ~ '^VmHWM' THEN 1 ELSE -1 END * substring(l FROM '\d+')::bigint) FROM regexp_split_to_table(pg_read_file('/proc/self/status'), '\n') AS l WHERE l ~ '^(VmHWM|RssShmem)')};
}

1;
