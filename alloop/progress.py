"""Progress of long work: a bar on a terminal, plain lines elsewhere, nothing when quiet."""

import sys
import time
from typing import TextIO

from tqdm import tqdm

LINE_EVERY = 10.0  # seconds between plain lines


def duration(seconds: float) -> str:
    """A time as people say it: `40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Progress:
    """Tells where the work stands on standard error, so that standard output stays for results."""

    def __init__(
        self, *, quiet: bool = False, prefix: str = "", bars: bool = True, stream: TextIO | None = None
    ) -> None:
        """`prefix` names the run when several are under way; several at once draw no `bars`."""
        self._stream = stream or sys.stderr
        self._quiet, self._prefix = quiet, prefix
        self._terminal = bars and self._stream.isatty()
        self._bar: tqdm | None = None  # type: ignore[type-arg]
        self._what, self._last_line = "", 0.0

    def say(self, text: str) -> None:
        """One line that stays."""
        self._end_bar()
        if not self._quiet:
            print(f"{self._prefix}{text}", file=self._stream, flush=True)

    def step(self, what: str, done: int, total: int, detail: str = "") -> None:
        """`done` of `total` of some work."""
        if self._quiet:
            return
        if self._terminal:
            self._move_bar(what, done, total, detail)
        elif time.monotonic() - self._last_line >= LINE_EVERY:
            self._last_line = time.monotonic()
            print(f"{self._prefix}{what}: {done}/{total} {detail}".rstrip(), file=self._stream, flush=True)

    def _move_bar(self, what: str, done: int, total: int, detail: str) -> None:
        if what != self._what or self._bar is None or done < self._bar.n:
            self._end_bar()
            self._bar = tqdm(total=total, desc=f"{self._prefix}{what}", file=self._stream, leave=False)
            self._what = what
        self._bar.set_postfix_str(detail, refresh=False)
        self._bar.update(done - self._bar.n)
        if done >= total:
            self._end_bar()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
