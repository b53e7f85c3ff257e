# Clients of a history that read usage: readers, those that hold their snapshots for long, and those that
# read on a standby.
package Meter::History::Reader;

use strict;
use warnings;
use parent 'Meter::History::Clients';
use Time::HiRes ();
use Meter::History::Statements qw(usage_query plain_query rollup_query);

# Asks what is planned until it is stopped.
sub reader
{
	my ($self) = @_;
	while (!$self->stopped)
	{
		$self->ask($self->{plan}->question);
		Time::HiRes::sleep($self->{pause}->between(0, 40) / 1000);
	}
	return;
}

# Asks one question again and again under a snapshot that it holds for seconds.
sub holder
{
	my ($self) = @_;
	while (!$self->stopped)
	{
		my $question = $self->{plan}->question;
		$self->ask({ %$question, compare => 1, hold => $self->{plan}->between(1, 8) / 10, times => $self->{plan}->between(2, 6) });
		Time::HiRes::sleep($self->{pause}->between(0, 200) / 1000);
	}
	return;
}

# Asks on the standby, where there is one now.
sub mirror
{
	my ($self) = @_;
	while (!$self->stopped)
	{
		my $question = $self->{plan}->question;
		$self->ask({ %$question, compare => 1 }) if $self->_connstr ne '';
		Time::HiRes::sleep($self->{pause}->between(0, 60) / 1000);
	}
	return;
}

# Asks a question, logs the answers, and returns them: that of usage alone or, under one snapshot, of
# usage (again where the snapshot is held), of plain SQL, and of the rollups if they can answer it.
sub ask
{
	my ($self, $question) = @_;
	my $name = $self->next_name;
	my $usage = usage_query($question);
	my $ask = sub { $self->{log}->append('ask', operation => $name, question => $question,
			held => $question->{compare}, standby => $self->{server} eq 'standby' ? 1 : 0) };
	my ($answer, @answers, @rollups, $plain);
	if (!$question->{compare})
	{
		$answer = $self->run($ask, usage_query($question, $question->{hold}));
		@answers = @{ $answer->{rows} // [] };
	}
	else
	{
		@rollups = rollup_query($question);
		$answer = $self->run($ask, 'BEGIN ISOLATION LEVEL REPEATABLE READ', $usage);
		if ($answer->{rows})
		{
			push @answers, $answer->{rows}[1];
			$self->{log}->append('snapshot', operation => $name);
			for (my $time = 1; $question->{hold} && $answer->{rows} && $time < ($question->{times} // 2); $time++)
			{
				Time::HiRes::sleep($question->{hold});
				$answer = $self->run_on($usage);
				push @answers, $answer->{rows}[0] if $answer->{rows};
			}
		}
		if ($answer->{rows})
		{
			$plain = @answers;
			$answer = $self->run_on(plain_query($question), @rollups, 'COMMIT');
			push @answers, splice @{ $answer->{rows} // [] }, 0, 1 + @rollups;
		}
		$self->roll_back if $answer->{error};
	}
	$self->{log}->append('told', operation => $name, error => $answer->{error}, lost => $answer->{lost},
		$answer->{rows} ? (answers => \@answers, plain => $plain, rollups => scalar @rollups) : ());
	return @answers;
}

1;
