"""Work in threads whose results come in order.

Pillow and hashlib release the interpreter while they decode and hash, and two threads measured as fast as two
processes. What comes back does not depend on their number.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

BLOCK = 64  # items that a thread takes at once: handing over a single one takes longer than hashing a small file


def in_order(function: Callable[[T], R], items: Iterable[T], workers: int | None = None) -> Iterator[R]:
    """Yield the result of each item in the order of the items, with a bounded number of items under way.

    The exception of the first item that fails is raised when its turn comes, whichever failed first.

    Args:
        function: what to do; it is called from several threads at once.
        items: what to do it with.
        workers: threads; one per core by default.
    """
    count = workers or os.cpu_count() or 1
    pool, under_way = ThreadPoolExecutor(count), deque[Future[R]]()
    try:
        for item in items:
            under_way.append(pool.submit(function, item))
            if len(under_way) > 2 * count:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def blocks(items: Iterable[T], size: int = BLOCK) -> Iterator[Sequence[T]]:
    """Cut items into lists of `size`; the last one may be shorter."""
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some
