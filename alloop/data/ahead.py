"""Reading ahead: values that will be needed soon are read in threads while others are worked with.

Pillow, zlib and hashlib release the interpreter while they work, so threads keep up with a device without the cost of
copying pixels between processes. What is read, and in which order it is handed out, does not depend on the threads.
"""

from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Ahead(Generic[Key, Value]):
    """A function of keys that is called in threads for the keys that somebody expects to need."""

    def __init__(self, read: Callable[[Key], Value], threads: int) -> None:
        """Start nothing yet.

        Args:
            read: the function; it may be called from several threads.
            threads: that call it; with 0, it is called when its value is asked for.
        """
        self._function, self._threads = read, threads
        self._expected: dict[str, Sequence[Key]] = {}
        self._started: dict[Key, Future[Value]] = {}

    @cached_property
    def _pool(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(self._threads, thread_name_prefix="alloop-read")

    def expect(self, reader: str, keys: Sequence[Key]) -> None:
        """Begin to read what is needed next, the first key first.

        The values of all keys are held until the same reader expects others, so `keys` bounds the memory.

        Args:
            reader: who needs them; each reader has its own keys.
            keys: all that it needs next, those of the present included.
        """
        if not self._threads:
            return
        self._expected[reader] = keys
        wanted = dict.fromkeys(key for keys in self._expected.values() for key in keys)
        for key in self._started.keys() - wanted.keys():
            self._started.pop(key).cancel()
        for key in wanted:
            if key not in self._started:
                self._started[key] = self._pool.submit(self._function, key)

    def forget(self) -> None:
        """Expect nothing any more, whoever it was that did."""
        for reader in list(self._expected):
            self.expect(reader, [])

    def read(self, key: Key) -> Value:
        """Return the value of a key, or raise what reading it raised."""
        future = self._started.get(key)
        if future is not None and not future.cancel():
            return future.result()
        self._started.pop(key, None)  # no thread has begun with it yet, so waiting would take longer
        return self._function(key)
