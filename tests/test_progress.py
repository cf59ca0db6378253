"""Progress on standard error."""

import io

from alloop.progress import Progress, duration


def test_progress_is_lines_off_a_terminal_and_nothing_when_quiet():
    for quiet in (False, True):
        stream = io.StringIO()
        progress = Progress(quiet=quiet, prefix="a: ", stream=stream)
        for step in range(5):
            progress.step("training", step + 1, 5, "loss 1.0")
        progress.say("done")
        assert stream.getvalue().splitlines() == ([] if quiet else ["a: training: 1/5 loss 1.0", "a: done"])


def test_durations_are_in_words():
    assert [duration(s) for s in (40, 89, 600, 12000)] == ["40 s", "89 s", "10 min", "3 h 20 min"]


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_progress_is_a_bar_on_a_terminal_and_lines_stay_below_it():
    stream = Terminal()
    progress = Progress(stream=stream)
    progress.step("training", 1, 3, "loss 1.0")
    assert stream.getvalue().startswith("\rtraining:")
    progress.say("round 1 is done")
    assert stream.getvalue().rpartition("\r")[2] == "round 1 is done\n", "the bar is gone"
    shared = Terminal()
    Progress(stream=shared, bars=False).step("training", 1, 3)
    assert shared.getvalue() == "training: 1/3\n", "runs that share a terminal draw no bars"
