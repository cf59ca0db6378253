"""Signs that the rounds of a run cannot answer the question, and what to change. Each is one sentence."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from alloop.ledger.shared_utilities import SharedUtility, shared_utilities
from alloop.ledger.store import Ledger, RoundRecord
from alloop.results.losses import Losses, read_losses

NOISE = 0.01  # AP by which equal trainings differ, about
MOSTLY = 0.5  # share of the chosen images with one utility above which it is reported
STALLED = 0.1  # share of a training at its end in which a loss that learns is never constant
FEWEST = 5  # steps at the end of a training without which a constant loss says nothing

Point = tuple[int, float]  # boxes paid for and AP, or labels and accuracy
Names = tuple[str, str]  # of the figure and of what is paid for


class Sign(Enum):
    """What a limit was seen by."""

    STALLED = "a loss that no longer changes"
    NOTHING_FOUND = "AP is 0"
    FALLEN = "AP falls"
    TIED = "one utility for most images"


@dataclass(frozen=True, slots=True)
class Limit:
    """What limits one run, in a sentence without its full stop."""

    sign: Sign
    sentence: str


def run_limits(ledger: Ledger, rounds: Sequence[RoundRecord]) -> list[Limit]:
    """Return what limits one run; the losses are read of those rounds alone whose AP is suspiciously low.

    Raises:
        DamagedFileError: losses differ from their record.
    """
    read = (read_losses(ledger, round_) for round_ in low_rounds(rounds))
    return limits(rounds, shared_utilities(ledger), [losses for losses in read if losses is not None])


def limits(
    rounds: Sequence[RoundRecord], shared: Sequence[SharedUtility] = (), losses: Sequence[Losses] = ()
) -> list[Limit]:
    """Return what limits one run.

    Args:
        rounds: the finished rounds.
        shared: the utility that most of the images chosen in each query share; a seed set has none.
        losses: of the rounds in `low_rounds`; those of others are looked at as well.
    """
    stalled = {one.round: found for one in losses if (found := stalled_loss(one)) is not None}
    points = points_of([record for record in rounds if record.round not in stalled])
    names = names_of(rounds)
    return [*_stalled(stalled, names), *_nothing_found(points), *fallen(points, names), *_tied(shared)]


def points_of(rounds: Sequence[RoundRecord]) -> list[Point]:
    """Return the points of the curve of AP, or of accuracy."""
    return [(record.boxes, value) for record in rounds if (value := _figure(record)) is not None]


def names_of(rounds: Sequence[RoundRecord]) -> Names:
    """Return what the points of rounds are called in texts."""
    return ("accuracy", "labels") if any("accuracy" in record.metrics for record in rounds) else ("AP", "boxes")


def _figure(record: RoundRecord) -> float | None:
    return record.metrics.get("ap", record.metrics.get("accuracy"))


def low_rounds(rounds: Sequence[RoundRecord]) -> list[int]:
    """Return the rounds whose figure is 0, or lower than an earlier one by more than noise."""
    best, low = 0.0, []
    for record in rounds:
        value = _figure(record)
        if value is not None and (value == 0 or _lower(value, best)):
            low.append(record.round)
        best = max(best, value or 0.0)
    return low


def stalled_loss(losses: Losses) -> tuple[str, float, int] | None:
    """Return name, value and first step of a loss that stayed the same until the end of a training, but not at 0.

    A loss through which no gradient reaches a weight is such a loss: a box head that ends in a ReLU, as that of
    torchvision's FCOS, predicts boxes of size 0 for ever once all its outputs are negative.
    """
    least = max(FEWEST, round(STALLED * len(losses.steps)))
    for name, values in {**losses.terms, "the total": losses.total}.items():
        end, steps = values[-1:], _same_at_end(values)
        if steps >= least and end[0]:
            return name, end[0], losses.steps[-steps]
    return None


def _same_at_end(values: Sequence[float | None]) -> int:
    """Return how many of the last values are the last one."""
    return next((n for n, value in enumerate(reversed(values)) if value != values[-1]), len(values))


def _lower(value: float, best: float) -> bool:
    return value < best - 2 * NOISE


def _stalled(found: Mapping[int, tuple[str, float, int]], names: Names) -> Iterator[Limit]:
    for round_, (name, value, step) in found.items():
        what = f"the training of round {round_} failed: its loss {name} stayed at {value:.4g} from step {step} on"
        change = "set detector.box_start: 1 where it is fcos and the loss one of boxes, else lower training.lr"
        yield Limit(Sign.STALLED, f"{what}, so {names[0]} of this round says nothing about its labels; {change}")


def _nothing_found(points: Sequence[Point]) -> Iterator[Limit]:
    if points and not any(value for _, value in points):
        what = "AP is 0 in every round, so the detector finds nothing and a strategy has nothing to go by"
        change = "train longer (training.iterations), on larger images, or from pretrained weights"
        yield Limit(Sign.NOTHING_FOUND, f"{what}; {change}")


def fallen(points: Sequence[Point], names: Names) -> Iterator[Limit]:
    """Say where AP or accuracy fell by more than equal trainings differ, although labels were added."""
    if len(points) < 2:
        return
    boxes, now = points[-1]
    fewer, then = max(points[:-1], key=lambda point: point[1])
    if _lower(now, then) and boxes > fewer:
        figure, paid = names
        fell = f"{figure} fell from {then:.3f} to {now:.3f} while {paid} rose from {fewer} to {boxes}"
        change = "raise training.iterations, or give epochs"
        yield Limit(Sign.FALLEN, f"{fell}: this training does not make use of more labels; {change}")


def _tied(shared: Sequence[SharedUtility]) -> Iterator[Limit]:
    """Say in which last round most of the chosen images had one utility, so that chance decided among them."""
    for one in reversed(shared):
        if one.chosen > 1 and one.images > MOSTLY * one.chosen:
            what = f"{one.images} of the {one.chosen} images chosen after round {one.round} have the utility"
            change = "among them chance decided; look at the parameters of the strategy, or train longer"
            yield Limit(Sign.TIED, f"{what} {one.utility:.3g}: {change}")
            return
