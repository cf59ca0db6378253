"""Groups are divided over splits such that each split has its share of every class.

First comes iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, "On the stratification of multi-label
data", algorithm 1). Their examples are groups here, and their counts of examples are counts of boxes. With `s_j` the
share of split j, `n_gi` the amount of class i in group g, and `c_ij` what split j still lacks of class i:

    c_ij = s_j * sum_g n_gi                       at the beginning
    i    = the class with the fewest groups that have no split yet
    j    = argmax_j c_ij                          for each group g with class i; ties by the number of images
    c_ij = c_ij - n_gi                            for every class i of the group

This leaves gaps, which are classes without a group in some split, and drifting numbers of images. So single groups are
moved afterwards, as long as a move closes gaps, or opens none and lowers the deviation

    sum_i w_i sum_j (sum_{g in j} n_gi / sum_g n_gi - s_j)^2

where `w_i` is 1 for a class, and the number of classes for the count of images. At the end no single move helps.

Where groups are few and classes many, gaps could only be closed by splits of quite another size than was wished. So a
move closes no gap where it takes the share of images of a split farther from the wish than `FARTHEST`, and than the
share of the largest group. A split without a group is always filled.

Few groups are divided several times, from other beginnings, and the best division is taken.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

LEAST = 1e-12  # a move must lower the deviation by more, so that rounding never moves a group back and forth
FARTHEST = 0.05  # of all images; 5 points more or less are a fair price for a split that has every class
MOST_ATTEMPTS = 100
GROUPS_OF_ATTEMPTS = 4000  # groups of all attempts together; more are divided once, which takes seconds for 100,000


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much of each column every group has: a matrix of which only the positive entries are kept, row by row.

    Attributes:
        starts: where each group's entries begin; its last element is the number of entries.
        columns: the column of each entry. The last column counts images, and every group has some.
        values: the amount of each entry.
        width: the number of columns.
    """

    starts: Int64[np.ndarray, " groups_and_one"]
    columns: Int64[np.ndarray, " entries"]
    values: Int64[np.ndarray, " entries"]
    width: int

    @classmethod
    def counted(
        cls, groups: Int64[np.ndarray, " units"], columns: Int64[np.ndarray, " units"], count: int, width: int
    ) -> "Amounts":
        """Count units, such as boxes and images, by group and column.

        Args:
            groups: the group of each unit.
            columns: the column of each unit.
            count: the number of groups.
            width: the number of columns.
        """
        keys, values = np.unique(groups * width + columns, return_counts=True)
        starts = np.searchsorted(keys, np.arange(count + 1) * width)
        return cls(starts.astype(np.int64), keys % width, values.astype(np.int64), width)

    def totals(self) -> Float64[np.ndarray, " columns"]:
        """Return the amount of each column in all groups."""
        return np.bincount(self.columns, self.values, self.width)

    def of(self, group: int) -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
        """Return the columns and the values of one group."""
        part = slice(self.starts[group], self.starts[group + 1])
        return self.columns[part], self.values[part]

    def in_order(self, order: Int64[np.ndarray, " groups"]) -> "Amounts":
        """Return the same groups in another order."""
        lengths = np.diff(self.starts)[order]
        starts = np.concatenate([[0], np.cumsum(lengths)])
        entries = np.repeat(self.starts[order] - starts[:-1], lengths) + np.arange(starts[-1])
        return Amounts(starts, self.columns[entries], self.values[entries], self.width)


def stratified(
    amounts: Amounts, shares: Float64[np.ndarray, " splits"], rng: np.random.Generator
) -> Int64[np.ndarray, " groups"]:
    """Return the split of each group, as its position among the shares.

    No split is empty. See the module for what else holds.

    Args:
        amounts: what each group has; at least as many groups as splits.
        shares: the wished share of each split; positive, with the sum 1.
        rng: the order in which groups that are alike are taken.
    """
    count = len(amounts.starts) - 1
    attempts = range(min(MOST_ATTEMPTS, max(1, GROUPS_OF_ATTEMPTS // count)))
    return min(
        (_attempt(amounts, shares, rng, number) for number in attempts), key=lambda moves: moves.faults()
    ).splits()


def _attempt(
    amounts: Amounts, shares: Float64[np.ndarray, " splits"], rng: np.random.Generator, number: int
) -> "_Moves":
    """Return a division after all moves that help; it begins with algorithm 1, or with any division."""
    count = len(amounts.starts) - 1
    order = rng.permutation(count)
    mixed = amounts.in_order(order)
    by_chance = number % 2 == 1
    splits = rng.choice(len(shares), count, p=shares) if by_chance else _iterative(mixed, shares)
    moves = _Moves(mixed, shares, splits, order)
    moves.improve()
    return moves


def _iterative(amounts: Amounts, shares: Float64[np.ndarray, " splits"]) -> Int64[np.ndarray, " groups"]:
    """Return the split of each group by algorithm 1; the groups are taken in the order in which they stand."""
    splits = np.full(len(amounts.starts) - 1, -1)
    lacking = np.outer(amounts.totals(), shares)
    for column, group in _rarest_first(amounts, splits):
        split = int(np.lexsort((-lacking[-1], -lacking[column]))[0])
        columns, values = amounts.of(group)
        lacking[columns, split] -= values
        splits[group] = split
    return splits


def _rarest_first(amounts: Amounts, splits: Int64[np.ndarray, " groups"]) -> Iterator[tuple[int, int]]:
    """Yield each group once, with the column for which it is taken; the caller gives it a split at once."""
    by_column = np.argsort(amounts.columns, kind="stable")
    group_of = np.repeat(np.arange(len(splits)), np.diff(amounts.starts))[by_column]
    left = np.bincount(amounts.columns, minlength=amounts.width)
    ends = np.cumsum(left)
    begins = ends - left
    while left.any():
        column = int(np.argmin(np.where(left > 0, left, len(splits) + 1)))
        for group in group_of[begins[column] : ends[column]].tolist():
            if splits[group] < 0:
                yield column, group
                left[amounts.of(group)[0]] -= 1


class _Moves:
    """A division of the groups, and what each move of a group to another split would change."""

    def __init__(
        self,
        amounts: Amounts,
        shares: Float64[np.ndarray, " splits"],
        splits: Int64[np.ndarray, " groups"],
        order: Int64[np.ndarray, " groups"],
    ) -> None:
        self._amounts, self._splits, self._order = amounts, splits, order
        totals = amounts.totals()
        self._share = amounts.values / totals[amounts.columns]  # of the whole column, for each entry
        of_entry = np.repeat(splits, np.diff(amounts.starts))
        self._groups = np.zeros((amounts.width, len(shares)), dtype=np.int64)
        np.add.at(self._groups, (amounts.columns, of_entry), 1)
        self._deviation = -np.outer(totals > 0, shares)
        np.add.at(self._deviation, (amounts.columns, of_entry), self._share)
        self._images = self._share[amounts.starts[1:] - 1]
        self._farthest = max(FARTHEST, float(self._images.max()))
        self._weights = np.ones(amounts.width)
        self._weights[-1] = max(1, int(np.count_nonzero(totals[:-1])))

    def splits(self) -> Int64[np.ndarray, " groups"]:
        """Return the split of each group, in the order that the groups had at first."""
        splits = np.empty_like(self._splits)
        splits[self._order] = self._splits
        return splits

    def faults(self) -> tuple[bool, int, float]:
        """Return whether a split has too few or too many images, the number of gaps, and the deviation."""
        used = self._groups.any(axis=1)
        far = bool(abs(self._deviation[-1]).max() > self._farthest + LEAST)
        gaps = int(np.count_nonzero(self._groups[used] == 0))
        return far, gaps, float(self._weights @ (self._deviation**2).sum(axis=1))

    def improve(self) -> None:
        """Move groups until no move helps."""
        while True:
            gaps, change = self._changes(0, len(self._splits))
            best = np.where(gaps == gaps.min(axis=1, keepdims=True), change, np.inf).min(axis=1)
            helpful = np.flatnonzero((gaps.min(axis=1) < 0) | (best < -LEAST))
            if not len(helpful):
                return
            for group in helpful[np.lexsort((best[helpful], gaps.min(axis=1)[helpful]))]:
                self._move_if_it_helps(int(group))

    def _changes(self, first: int, end: int) -> tuple[Int64[np.ndarray, "n splits"], Float64[np.ndarray, "n splits"]]:
        """Return how many gaps more, and how much more deviation, each move of the groups from `first` on leaves."""
        starts = self._amounts.starts[first : end + 1]
        entries = slice(starts[0], starts[-1])
        columns, share = self._amounts.columns[entries], self._share[entries, None]
        own = self._splits[first:end, None]
        owns = np.repeat(own, np.diff(starts), axis=0)
        weights, groups, deviation = self._weights[columns, None], self._groups[columns], self._deviation[columns]
        further = deviation - np.take_along_axis(deviation, owns, axis=1)
        opened = (np.take_along_axis(groups, owns, axis=1) == 1).astype(np.int64) - (groups == 0)
        gaps = np.add.reduceat(opened, starts[:-1] - starts[0])
        change = np.add.reduceat(2 * weights * share * (share + further), starts[:-1] - starts[0])
        gaps[(gaps < 0) & self._too_far(first, end)] = 0
        for table in (gaps, change):
            np.put_along_axis(table, own, 0, axis=1)  # to stay is no move
        return gaps, change

    def _too_far(self, first: int, end: int) -> Bool[np.ndarray, "n splits"]:
        """Return which moves take the share of images of a split too far from the wish to be worth a closed gap."""
        images, own = self._images[first:end, None], self._splits[first:end]
        before = self._deviation[-1]
        left, taken = before[own, None] - images, before + images
        far = (left < -self._farthest - LEAST) | (taken > self._farthest + LEAST)
        return np.asarray(far & (self._groups[-1] > 0))

    def _move_if_it_helps(self, group: int) -> None:
        (gaps,), (change,) = self._changes(group, group + 1)
        best, own = int(np.lexsort((change, gaps))[0]), self._splits[group]
        if gaps[best] < 0 or (gaps[best] == 0 and change[best] < -LEAST):
            columns, _ = self._amounts.of(group)
            share = self._share[self._amounts.starts[group] : self._amounts.starts[group + 1]]
            for table, amount in ((self._deviation, share), (self._groups, np.int64(1))):
                table[columns, own] -= amount
                table[columns, best] += amount
            self._splits[group] = best
