"""Runs the program of a round, at most once at a time, and never past its time limit."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from alloop.errors import TrainingError
from alloop.progress import Progress, duration

LAST_LINES = 5  # of the log, in an error message
_POLL = 0.05  # seconds between two looks at the program


@dataclass(frozen=True, slots=True)
class Program:
    """A program and how it is watched.

    Attributes:
        words: the program and its arguments.
        log: what it prints is added to this file.
        lock: a file that is locked as long as the program lives. The program inherits the lock: if the run is killed
            and started again while it still works, the run waits for it instead of starting a second one.
        seconds: its time limit.
    """

    words: Sequence[str]
    log: Path
    lock: Path
    seconds: float

    def wait_for_earlier(self, progress: Progress) -> bool:
        """Wait until the program of an earlier start has ended; return whether there was one.

        Raises:
            TrainingError: it does not end within the time limit.
        """
        with self.lock.open("a") as handle:
            if _locked(handle.fileno()):
                return False
            progress.say(f"the program of an earlier start still works; waiting for it ({self.log})")
            started = time.monotonic()
            while not _locked(handle.fileno()):
                if time.monotonic() - started > self.seconds:
                    msg = f"{self.log}: the program of an earlier start works for more than {duration(self.seconds)}"
                    raise TrainingError(f"{msg}; stop it")
                time.sleep(_POLL)
        return True

    def run(self) -> None:
        """Run the program to its end.

        Raises:
            TrainingError: it cannot be started, ends with another exit code than 0, or passes the time limit.
        """
        with self.lock.open("a") as lock, self.log.open("ab") as log:
            flock(lock, LOCK_EX)
            log.write(f"$ {shlex.join(self.words)}\n".encode())
            log.flush()
            try:
                process = subprocess.Popen(  # noqa: S603  the user's own program
                    self.words,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock.fileno(),),
                    start_new_session=True,
                )
            except OSError as error:
                msg = f"detector.command: {self.words[0]!r} cannot be started ({error.strerror}); is the path right?"
                raise TrainingError(msg) from error
            code = self._ended(process)
        if code:
            how = f"was stopped by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise TrainingError(f"detector.command: {self.words[0]} {how}; {self.last_lines()}")

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        """Return the exit code; the program and what it started are stopped at the time limit or an interrupt."""
        try:
            return process.wait(self.seconds)
        except subprocess.TimeoutExpired as error:
            msg = (
                f"detector.command: {self.words[0]} had not ended after {duration(self.seconds)} and was stopped. "
                f"Raise detector.time_limit_hours, or see why it hangs: {self.last_lines()}"
            )
            raise TrainingError(msg) from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def last_lines(self) -> str:
        """Return the end of the log, for a message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.is_file() else []
        return f"{self.log} ends with:\n" + "\n".join(f"  {line}" for line in lines[-LAST_LINES:])


def _locked(descriptor: int) -> bool:
    """Lock a file and return True, or False where another process holds it."""
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return False
    return True
