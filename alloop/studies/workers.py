"""One map over processes."""

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

from alloop.plugins import look_in, looked_in

REPORT_EVERY = 60.0  # seconds between reports while nothing ends

Job = TypeVar("Job")


def in_processes(
    function: Callable[[Job], str | None], jobs: Mapping[str, Job], workers: int
) -> Iterator[dict[str, str | None]]:
    """Call a function for every job in several processes.

    Args:
        function: returns why a job failed, or None. It and the jobs must be picklable.
        jobs: by name.
        workers: number of processes.

    Yields:
        the outcomes of the jobs that have just ended; an empty dict when none ended for a minute. An exception
        in a process, or its death, is an outcome as well.
    """
    settings: dict[str, Any] = {"mp_context": get_context("spawn"), "initializer": _begin, "initargs": (looked_in(),)}
    with ProcessPoolExecutor(workers, **settings) as executor:
        running: dict[Future[str | None], str] = {executor.submit(function, job): name for name, job in jobs.items()}
        while running:
            done, _ = wait(running, REPORT_EVERY, FIRST_COMPLETED)
            yield {running.pop(future): _outcome(future) for future in done}


def _outcome(future: Future[str | None]) -> str | None:
    """Return why a job failed, or None."""
    error = future.exception()
    return f"{type(error).__name__}: {error}" if error else future.result()


def _begin(folders: Sequence[Path]) -> None:
    """Prepare a worker: it finds the plug-ins that its study finds, and ends with it."""
    for folder in folders:
        look_in(folder)
    _end_with_parent()


def _end_with_parent() -> None:
    """Stop a worker at once when its study is killed; what it has booked is kept, and resuming does the rest."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
