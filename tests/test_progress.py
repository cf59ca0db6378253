"""Progress on standard error."""

import io

from alloop.progress import Progress


def test_progress_is_lines_off_a_terminal_and_nothing_when_quiet():
    for quiet in (False, True):
        stream = io.StringIO()
        progress = Progress(quiet=quiet, prefix="a: ", stream=stream)
        for step in range(5):
            progress.step("training", step + 1, 5, "loss 1.0")
        progress.say("done")
        assert stream.getvalue().splitlines() == ([] if quiet else ["a: training: 1/5 loss 1.0", "a: done"])
