"""Progress of long work: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between plain lines
LOG = "log.txt"  # in the folder of a run or a study: what was reported, with the time; no part of the record


def duration(seconds: float) -> str:
    """Return a time in words: `40 s`, `12 min` or `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Reports progress on standard error, so that standard output has results alone."""

    def __init__(
        self, *, quiet: bool = False, prefix: str = "", bars: bool = True, stream: TextIO | None = None
    ) -> None:
        """Prepare a report that prints nothing yet.

        Args:
            quiet: print nothing at all.
            prefix: text before each line, for example the name of the run where several run at once.
            bars: draw a bar where the stream is a terminal; not where several runs share it.
            stream: where to print, standard error by default.
        """
        self._stream = stream or sys.stderr
        self._quiet = quiet
        self._prefix = prefix
        self._terminal = bars and self._stream.isatty()
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        self._task = ""  # what the bar is about
        self._last_line = 0.0

    def logged(self, path: Path) -> "LoggedProgress":
        """Return what reports the same, and also writes it to the end of a file, with the time, even when quiet."""
        return LoggedProgress(self, path)

    def say(self, text: str) -> None:
        """Print one line that stays."""
        self._end_bar()
        if not self._quiet:
            print(f"{self._prefix}{text}", file=self._stream, flush=True)

    def step(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report that `done` of `total` steps of a task are done; `detail` is a short text such as the loss."""
        if self._quiet:
            return
        if self._terminal:
            self._move_bar(task, done, total, detail)
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self._prefix}{task}: {done}/{total} {detail}".rstrip(), file=self._stream, flush=True)

    def _move_bar(self, task: str, done: int, total: int, detail: str) -> None:
        if task != self._task or self._bar is None or done < self._bar.n:
            from tqdm import tqdm  # noqa: PLC0415  `status`, which draws no bar, starts faster without it

            self._end_bar()
            self._bar = tqdm(total=total, desc=f"{self._prefix}{task}", file=self._stream, leave=False)
            self._task = task
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class LoggedProgress(Progress):
    """Reports progress as another does, and writes it to a file: each line, and every 10 seconds what is being done.

    A file that cannot be written is given up, for it is no part of what is recorded.
    """

    def __init__(self, shown: Progress, path: Path) -> None:
        """Write nothing yet."""
        super().__init__(quiet=True)
        self._shown, self._path = shown, path

    def say(self, text: str) -> None:
        """Print and write one line."""
        self._shown.say(text)
        self._write(text)

    def step(self, task: str, done: int, total: int, detail: str = "") -> None:
        """Report a step; the last step of each task is always written."""
        self._shown.step(task, done, total, detail)
        if done >= total or time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            self._write(f"{task}: {done}/{total} {detail}".rstrip())

    def _write(self, text: str) -> None:
        now = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
        with suppress(OSError), self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(f"{now}  {line}\n" for line in text.splitlines()))
