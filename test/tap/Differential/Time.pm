# Instants worth trying, as microseconds since 1970.
package Differential::Time;
use strict;
use warnings;
use Exporter 'import';
use POSIX ();
use Time::Local 'timegm';

our @EXPORT_OK = qw(instant literal month_start hot_instants HOUR DAY);

use constant { SECOND => 1_000_000, MINUTE => 60_000_000, HOUR => 3_600_000_000, DAY => 86_400_000_000 };

# 'YYYY-MM-DD HH:MM' in UTC.
sub instant
{
	my ($text) = @_;
	my ($year, $month, $day, $hour, $minute) = $text =~ /^(\d+)-(\d+)-(\d+) (\d+):(\d+)$/ or die "not an instant: $text";
	return timegm(0, $minute, $hour, $day, $month - 1, $year) * SECOND;
}

# As PostgreSQL and JSON read it.
sub literal
{
	my ($time) = @_;
	return POSIX::strftime('%Y-%m-%d %H:%M:%S', gmtime(int($time / SECOND))) . sprintf('.%06d+00:00', $time % SECOND);
}

# The start of the month, in UTC, some months after the one that $time lies in.
sub month_start
{
	my ($time, $months) = @_;
	my (undef, undef, undef, undef, $month, $year) = gmtime(int($time / SECOND));
	my $number = $year * 12 + $month + $months;
	return timegm(0, 0, 0, 1, $number % 12, 1900 + int($number / 12)) * SECOND;
}

# Edges: of hours, days, months and years, in UTC and elsewhere, and where clocks change.
sub hot_instants
{
	my ($now) = @_;
	my @hot = map { instant($_) } (
		'2024-03-10 07:00', '2024-03-10 05:00', '2024-11-03 06:00', '2024-11-03 04:00',    # America/New_York
		'2024-04-06 15:00', '2024-10-05 15:30', '2024-10-05 13:30',                          # Australia/Lord_Howe
		'2018-02-18 02:00', '2018-11-04 03:00', '2018-11-05 02:00',                          # America/Sao_Paulo
		'2011-12-30 10:00', '2011-12-29 10:00', '2021-04-03 14:00',                          # Pacific/Apia
		'1985-12-31 18:30', '2024-10-14 18:15', '2024-10-31 18:15',                          # Asia/Kathmandu
		'2024-10-14 18:30', '2024-10-31 18:30',                                              # Asia/Kolkata
		'2024-10-01 00:00', '2024-11-01 00:00', '2024-12-01 00:00', '2024-02-29 00:00', '2024-03-01 00:00',
		'2023-12-31 00:00', '2024-01-01 00:00', '2024-10-14 00:00', '2024-10-14 09:00', '2024-10-14 09:30',
		'2024-10-14 23:00', '2024-10-07 00:00', '1970-01-01 01:00', '2000-02-29 12:00');
	my $day = $now - $now % DAY;
	my $hour = $now - $now % HOUR;
	return (@hot, $day, $day - DAY, $hour, $hour - HOUR, $hour + HOUR, map { month_start($now, $_) } (-2, -1, 0));
}

1;
