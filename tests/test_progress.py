"""Progress on standard error."""

import io
from datetime import datetime

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


def test_a_log_has_what_is_said_and_the_last_step_of_each_task_with_the_time(tmp_path):
    stream, path = io.StringIO(), tmp_path / "log.txt"
    progress = Progress(stream=stream, prefix="a: ").logged(path)
    progress.say("first\nsecond")
    for done in range(1, 4):
        progress.step("training", done, 3, f"loss {done}")
    lines = path.read_text().splitlines()
    assert [line.partition("  ")[2] for line in lines[:2]] == ["first", "second"]
    assert lines[-1].endswith("  training: 3/3 loss 3")
    assert all(datetime.fromisoformat(line.partition("  ")[0]).tzinfo for line in lines)
    assert "a: first" in stream.getvalue()


def test_a_log_is_written_where_nothing_is_shown_and_given_up_where_it_cannot_be(tmp_path):
    quiet = Progress(quiet=True)
    quiet.logged(tmp_path / "log.txt").say("one")
    quiet.logged(tmp_path / "log.txt").say("two")
    assert len((tmp_path / "log.txt").read_text().splitlines()) == 2
    quiet.logged(tmp_path).say("a folder is no file")
