"""How long a run and a study still take, estimated from the rounds that are finished and from the open one.

A training takes longer with more images, or always as long, as the config has it. Which of both is seen from the
finished rounds: a line through their times, neither falling nor steeper than in proportion to the images. Evaluation
and query take as long as they did on average. In the first round the training itself tells how fast it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from alloop.ledger.store import RoundRecord
from alloop.progress import duration

ENOUGH = 0.01  # share of a training after which its own speed counts


@dataclass(frozen=True, slots=True)
class Doing:
    """What the open round is doing.

    Attributes:
        step: `train`, `evaluate` or `query`.
        share: how much of a training is done, from 0 to 1.
        seconds: how long an evaluation or a query has been going on.
        training: what the whole training of this round takes; None where it is not known, see `whole_training`.
    """

    step: str
    share: float = 0.0
    seconds: float = 0.0
    training: float | None = None


def whole_training(seconds: float, first: float, last: float) -> float | None:
    """Return how long a training takes that got from one share to another in `seconds`.

    None where that is too little to say it. A resumed training does not begin at a share of 0.
    """
    return seconds / (last - first) if last - first >= ENOUGH else None


@dataclass(frozen=True, slots=True)
class TimeLeft:
    """Seconds until a run is finished; `at_least` where a step of the rounds was never timed yet."""

    seconds: float
    at_least: bool = False

    def __str__(self) -> str:
        """Return it in words."""
        return f"{'at least' if self.at_least else 'about'} {duration(self.seconds)}"


def time_left(rounds: Sequence[RoundRecord], images: int, planned: int, doing: Doing | None = None) -> TimeLeft | None:
    """Return how long a run still takes; None where nothing says it.

    Args:
        rounds: the finished rounds.
        images: labeled images of the open round.
        planned: how many rounds the run will have.
        doing: what the open round is doing; None where it has not begun.
    """
    left = planned - len(rounds)
    if left <= 0:
        return TimeLeft(0.0)
    points = [(record.images, record.timings["train"]) for record in rounds if "train" in record.timings]
    own = None if doing is None else doing.training
    if own is not None:
        points.append((images, own))
    if not points:
        return None
    bought = (images - rounds[0].images) / len(rounds) if rounds else 0.0
    line = _line(points)
    trainings = [line(images) if own is None else own, *(line(images + k * bought) for k in range(1, left))]
    evaluate, query = _mean(rounds, "evaluate"), _mean(rounds, "query")
    total = sum(trainings) + left * (evaluate or 0.0) + (left - 1) * (query or 0.0)
    done = 0.0 if doing is None else _done(doing, trainings[0], evaluate or 0.0, query or 0.0)
    return TimeLeft(max(0.0, total - done), evaluate is None or (query is None and left > 1))


def study_time_left(seconds: Sequence[float], left: int, at_once: int) -> float | None:
    """Return how many seconds the rest of a study takes; None where no round is finished.

    Args:
        seconds: the time of each finished round of its runs.
        left: how many rounds are to be done.
        at_once: how many runs go on at the same time.
    """
    if left <= 0:
        return 0.0
    return sum(seconds) / len(seconds) * left / min(max(1, at_once), left) if seconds else None


def _done(doing: Doing, train: float, evaluate: float, query: float) -> float:
    """Return how many of the estimated seconds of the open round are over."""
    if doing.step == "train":
        return doing.share * train
    if doing.step == "evaluate":
        return train + min(evaluate, doing.seconds)
    return train + evaluate + min(query, doing.seconds)


def _mean(rounds: Sequence[RoundRecord], step: str) -> float | None:
    known = [record.timings[step] for record in rounds if step in record.timings]
    return sum(known) / len(known) if known else None


def _line(points: Sequence[tuple[float, float]]) -> Callable[[float], float]:
    """Return the line of least squares through (images, seconds), between constant and proportional to the images."""
    x, y = (sum(values) / len(points) for values in zip(*points, strict=True))
    spread = sum((images - x) ** 2 for images, _ in points)
    slope = sum((images - x) * (seconds - y) for images, seconds in points) / spread if spread else 0.0
    slope = min(max(0.0, slope), y / x if x else 0.0)
    return lambda images: y + slope * (images - x)
