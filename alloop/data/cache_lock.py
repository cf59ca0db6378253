"""One process at a time fills a `CacheFolder`; the others wait, and then what they need is there."""

from collections.abc import Iterator
from contextlib import contextmanager

from filelock import FileLock

from alloop.data.cache_folder import CacheFolder


@contextmanager
def one_at_a_time(kept: CacheFolder | None, purpose: str) -> Iterator[None]:
    """Wait until no other process works on the same thing. Nobody waits where the folder cannot be written.

    Args:
        kept: the folder that the processes share; None where they share none.
        purpose: a word that names the work.
    """
    if kept is None:
        yield
        return
    lock = FileLock(kept.folder / f"{purpose}.lock")
    try:
        kept.folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        yield
        return
    try:
        yield
    finally:
        lock.release()
