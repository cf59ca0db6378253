"""Exact search for near neighbours among 64-bit hashes by Hamming distance.

The time to compare all pairs grows with the square of their number. The search cuts the hashes into m blocks instead
(multi-index hashing: M. Norouzi, A. Punjani, D. J. Fleet, "Fast Exact Search in Hamming Space with Multi-Index
Hashing", 2014). If two hashes differ in at most `radius = m q + r` bits, by the pigeonhole principle they differ in
at most q bits in one of the first r + 1 blocks, or in at most q - 1 bits in one of the others. So the search looks up,
block by block, which hashes have a block that nearly agrees, and compares only those. The number of blocks is chosen by
the estimated work. Equal hashes are searched once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from math import comb

import numpy as np
from jaxtyping import Int64, UInt8, UInt64

BITS = 64
_WIDEST = 22  # bits of a block: the table of its values takes 32 MB
_CHUNK = 2**21  # pairs that are compared at once
_FEW = 2**18  # pairs that are compared sooner than the work of the other ways is estimated
_MERGED = 2**20  # edges that are merged into groups at once

Hashes = UInt64[np.ndarray, " n"]
Queries = UInt64[np.ndarray, " m"]
Pairs = tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"], UInt8[np.ndarray, " pairs"]]


def hamming_distance(first: UInt64[np.ndarray, "*n"], second: UInt64[np.ndarray, "*n"]) -> UInt8[np.ndarray, "*n"]:
    """Return the number of bits in which hashes differ, element by element."""
    distance: np.ndarray = np.bitwise_count(first ^ second)
    return distance


def near_pairs(hashes: Hashes, radius: int) -> Pairs:
    """Return every pair of hashes that differ in at most `radius` bits: rows i < j, sorted, and their distances.

    Equal hashes are pairs too, so n equal hashes give n (n - 1) / 2 pairs; `near_groups` avoids that.
    """
    distinct, inverse, sizes = np.unique(hashes, return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(sizes > 1)
    found = [(repeated, repeated, np.zeros(len(repeated), dtype=np.uint8))]
    found += _near(distinct, distinct, radius, within=True)
    first, second, distance = (np.concatenate(parts) for parts in zip(*found, strict=True))
    codes, once = np.unique(first * len(distinct) + second, return_index=True)
    return _members(codes // max(1, len(distinct)), codes % max(1, len(distinct)), distance[once], inverse, sizes)


def near_groups(hashes: Hashes, radius: int) -> Int64[np.ndarray, " n"]:
    """Return a group for each hash: two hashes are in one group if a chain of hashes leads from one to the other.

    Neighbours in the chain differ in at most `radius` bits (single linkage). A group has the number of its first row.
    """
    distinct, inverse = np.unique(hashes, return_inverse=True)
    labels = np.arange(len(distinct))
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    for i, j, _ in _near(distinct, distinct, radius, within=True):
        a, b = labels[i], labels[j]
        waiting.append((a[a != b], b[a != b]))
        if sum(len(edges) for edges, _ in waiting) > _MERGED:
            labels, waiting = _merged(labels, waiting), []
    groups = _merged(labels, waiting)[inverse]
    first = np.full(len(distinct), len(hashes))
    np.minimum.at(first, groups, np.arange(len(hashes)))
    numbers: np.ndarray = first[groups]
    return numbers


def nearest(queries: Queries, hashes: Hashes, radius: int) -> tuple[Int64[np.ndarray, " m"], UInt8[np.ndarray, " m"]]:
    """Return, for each query, the row of the nearest hash within `radius` bits and its distance.

    The row is the first one among equally near hashes, and -1 (with distance 255) where none is near enough.
    """
    asked, which = np.unique(queries, return_inverse=True)
    distinct, first_rows = np.unique(hashes, return_index=True)
    best = np.full(len(asked), np.iinfo(np.int64).max)
    for i, j, distance in _near(asked, distinct, radius, within=False):
        np.minimum.at(best, i, (distance.astype(np.int64) << 48) | first_rows[j])
    is_found = best < np.iinfo(np.int64).max
    rows = np.where(is_found, best & ((1 << 48) - 1), -1)
    distances = np.where(is_found, best >> 48, 255).astype(np.uint8)
    return rows[which], distances[which]


@dataclass(frozen=True, slots=True)
class _Block:
    """Some bits of a hash and the number of bits among them that may differ."""

    shift: int
    width: int
    radius: int

    def of(self, hashes: Hashes) -> Int64[np.ndarray, " n"]:
        """Return the value of this block in each hash."""
        return ((hashes >> np.uint64(self.shift)) & np.uint64((1 << self.width) - 1)).astype(np.int64)

    @property
    def flips(self) -> int:
        """How many values lie within the radius of one value."""
        return sum(comb(self.width, bits) for bits in range(self.radius + 1))

    def masks(self) -> Iterator[int]:
        """Return the differences that two values may have: every choice of at most `radius` bits."""
        for number in range(self.radius + 1):
            for bits in combinations(range(self.width), number):
                yield sum(1 << bit for bit in bits)


def _blocks(count: int, radius: int) -> list[_Block]:
    """Cut a hash into blocks of nearly equal width; a block whose radius is negative needs no look-up."""
    each, rest = divmod(radius, count)
    edges = [BITS * number // count for number in range(count + 1)]
    cut = [
        _Block(low, high - low, each if number <= rest else each - 1)
        for number, (low, high) in enumerate(pairwise(edges))
    ]
    return [block for block in cut if block.radius >= 0]


def _best_blocks(queries: Queries, hashes: Hashes, radius: int) -> list[_Block]:
    """Return the blocks with the least estimated work; one block without a bit compares everything with everything."""
    if len(queries) * len(hashes) <= _FEW:
        return [_Block(0, 0, 0)]
    fewest = BITS // _WIDEST + 1
    options = [[_Block(0, 0, 0)]]
    options += [_blocks(count, radius) for count in range(fewest, max(fewest, min(radius + 1, 16)) + 1)]
    return min(options, key=lambda blocks: sum(_work(block, queries, hashes) for block in blocks))


def _work(block: _Block, queries: Queries, hashes: Hashes) -> float:
    """Estimate the look-ups and comparisons of a block from how unevenly its values are spread."""
    sizes = [np.bincount(block.of(values), minlength=1 << block.width) for values in (queries, hashes)]
    return (1 << block.width) + block.flips * (len(queries) + float(np.dot(sizes[0].astype(np.float64), sizes[1])))


def _near(queries: Queries, hashes: Hashes, radius: int, *, within: bool) -> Iterator[Pairs]:
    """Return rows of queries and hashes within the radius, in chunks; a pair may come again from another block.

    Args:
        queries: distinct hashes.
        hashes: distinct hashes.
        radius: in bits.
        within: both are the same; then each pair is looked up from one side alone, and no row is paired with itself.
    """
    if not len(queries) or not len(hashes):
        return
    for block in _best_blocks(queries, hashes, radius):
        yield from _near_in_block(block, queries, hashes, radius, within=within)


def _near_in_block(block: _Block, queries: Queries, hashes: Hashes, radius: int, *, within: bool) -> Iterator[Pairs]:
    asked, order = np.argsort(block.of(queries), kind="stable"), np.argsort(block.of(hashes), kind="stable")
    queries, hashes = queries[asked], hashes[order]
    keys = block.of(queries)
    starts = np.append(0, np.cumsum(np.bincount(block.of(hashes), minlength=1 << block.width)))
    for mask in block.masks():
        # within one set, a pair of different values is looked up from the one whose highest differing bit is 0
        rows = np.flatnonzero(keys & (1 << mask.bit_length() - 1) == 0) if within and mask else np.arange(len(keys))
        begin, end = starts[keys[rows] ^ mask], starts[(keys[rows] ^ mask) + 1]
        if within and not mask:
            begin = rows + 1
        for i, j in _expanded(rows, begin, end):
            distance = hamming_distance(queries[i], hashes[j])
            near = distance <= radius
            if near.any():
                yield _oriented(asked[i[near]], order[j[near]], distance[near], within=within)


def _oriented(i: np.ndarray, j: np.ndarray, distance: np.ndarray, *, within: bool) -> Pairs:
    return (np.minimum(i, j), np.maximum(i, j), distance) if within else (i, j, distance)


def _expanded(rows: np.ndarray, begin: np.ndarray, end: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pair each row with the positions from its begin to its end, in chunks of bounded size."""
    counts = end - begin
    some = counts > 0
    rows, begin, counts = rows[some], begin[some], counts[some]
    ends = np.cumsum(counts)
    at = 0
    while at < len(rows):
        done = int(ends[at - 1]) if at else 0
        to = max(at + 1, int(np.searchsorted(ends, done + _CHUNK, side="right")))
        part = counts[at:to]
        offsets = np.arange(int(part.sum())) - np.repeat(ends[at:to] - part - done, part)
        yield np.repeat(rows[at:to], part), np.repeat(begin[at:to], part) + offsets
        at = to


def _merged(labels: np.ndarray, edges: Sequence[tuple[np.ndarray, np.ndarray]]) -> Int64[np.ndarray, " n"]:
    """Return labels in which the groups at both ends of each edge are one."""
    from scipy.sparse import coo_array  # noqa: PLC0415  slow to import, and only groups need it
    from scipy.sparse.csgraph import connected_components  # noqa: PLC0415

    if not edges:
        return labels
    first, second = (np.concatenate(ends) for ends in zip(*edges, strict=True))
    size = len(labels)
    graph = coo_array((np.ones(len(first), dtype=np.int8), (first, second)), shape=(size, size))
    groups: np.ndarray = connected_components(graph, directed=False)[1].astype(np.int64)
    merged: np.ndarray = groups[labels]
    return merged


def _members(
    first: np.ndarray, second: np.ndarray, distance: np.ndarray, inverse: np.ndarray, sizes: np.ndarray
) -> Pairs:
    """Return the pairs of rows that pairs of distinct hashes stand for, sorted.

    Args:
        first: a distinct hash of each pair.
        second: the other one, or the same again for its equal rows.
        distance: of both.
        inverse: the distinct hash of each row.
        sizes: rows of each distinct hash.
    """
    rows, starts = np.argsort(inverse, kind="stable"), np.cumsum(sizes) - sizes
    each = sizes[first] * sizes[second]
    number = np.arange(int(each.sum())) - np.repeat(np.cumsum(each) - each, each)
    a, b, wide = (np.repeat(values, each) for values in (starts[first], starts[second], sizes[second]))
    i, j = rows[a + number // wide], rows[b + number % wide]
    kept = (np.repeat(first != second, each)) | (i < j)
    i, j, distance = np.minimum(i, j)[kept], np.maximum(i, j)[kept], np.repeat(distance, each)[kept]
    order = np.lexsort((j, i))
    return i[order], j[order], distance[order]
