"""The progress of a run or a study, read from ledgers that another process may be writing."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from alloop.budget.amounts import Spent
from alloop.budget.charges import RoundCharges
from alloop.external.folders import exchange_folder, is_unanswered
from alloop.ledger.amendments import Amendment, recorded_amendments
from alloop.ledger.corrections import corrections_by_round
from alloop.ledger.facts import RunFacts
from alloop.ledger.labeled_images import content_of_last_round
from alloop.ledger.requests import AnnotationRequest, AnnotationRequests, RoundAnswers
from alloop.ledger.store import Ledger, RoundRecord, read_ledger, run_folders
from alloop.loop.time_left import TimeLeft, time_left
from alloop.progress import duration
from alloop.results.forecast import forecast
from alloop.results.forecast_words import RunForecast
from alloop.results.limits import Limit, run_limits
from alloop.results.names import UNITS
from alloop.results.run_log import RunLog, read_log
from alloop.results.stopping import WORTH, NextRound, advice
from alloop.tables import Table

SHOWN = 16  # digits of a hash that a table shows


@dataclass(frozen=True)
class RunStatus:
    """The progress of a run as its ledger records it.

    Attributes:
        facts: what was recorded when the run began; None when it never began.
        rounds: the finished rounds.
        spent: images and boxes paid for.
        pool: number of images in the pool.
        open_round: the round that is not finished; None between rounds and after the last one.
        checkpoint_step: step of the last training checkpoint of the open round, or None.
        answers: the answers to the annotation request of each round.
        waiting_round: the round whose answers are missing, or None.
        requests: the annotation requests of the waiting round.
        charged: the charges of each round.
        asks_program: the folder in which another program, which trains, has not answered the open round; or None.
        gain_worth_having: AP that the next round should gain.
        limits: what keeps the run from an answer.
        amendments: what was changed about the run after it began.
        corrections: (round, images, boxes, cost) of the corrected labels that were taken in.
        log: what was reported last.
        content: the last finished round and the hash of what it trained on; None where it is not known.
    """

    facts: RunFacts | None
    rounds: Sequence[RoundRecord]
    spent: Spent
    pool: int
    open_round: int | None
    checkpoint_step: int | None
    answers: Sequence[RoundAnswers]
    waiting_round: int | None
    requests: Sequence[AnnotationRequest]
    charged: Sequence[RoundCharges]
    asks_program: Path | None = None
    gain_worth_having: float = WORTH
    content: tuple[int, str] | None = None
    limits: Sequence[Limit] = ()
    amendments: Sequence[Amendment] = ()
    corrections: Sequence[tuple[int, int, int, float]] = ()
    log: RunLog = field(default_factory=RunLog)

    @property
    def task(self) -> str:
        """What the run is about: `detection`, or `classification`."""
        return self.facts.task if self.facts else "detection"

    @property
    def left(self) -> TimeLeft | None:
        """How long the run still takes; None where nothing says it, or where it seems to be stopped."""
        planned = self.facts and self.facts.rounds_planned
        if self.open_round is None or not planned or not self.log.goes_on:
            return None
        return time_left(self.rounds, self.spent.images, planned, self.log.doing(self.open_round))

    @property
    def state(self) -> str:
        """The state in a few words."""
        if self.waiting_round is not None:
            return f"round {self.waiting_round} waits for people"
        if self.asks_program is not None:
            return f"round {self.open_round} waits for the program that trains"
        if self.open_round is not None:
            return f"round {self.open_round} is open"
        return "finished" if self.rounds else "not begun"

    @property
    def progress(self) -> str:
        """How many of the planned rounds are finished."""
        step = "" if self.checkpoint_step is None else f"; training checkpoint at step {self.checkpoint_step}"
        planned = (self.facts and self.facts.rounds_planned) or "?"
        return f"{len(self.rounds)} of {planned} done{step}"

    @property
    def predicted_boxes(self) -> float:
        """The number of boxes that the detector predicts on the requested images."""
        return sum(request.predicted_boxes for request in self.requests)

    def lines(self) -> list[str]:
        """Return the lines that `alloop status` prints about one run."""
        facts = self.facts
        name, seed = (facts.strategy, facts.random_seed) if facts else ("?", "?")
        budget = f"budget {facts.budget}" if facts and facts.budget else "no budget"
        return [
            f"strategy {name}, random seed {seed}: {self.state}",
            f"rounds   {self.progress}",
            *self._reported(),
            f"paid     {self.spent.images} of {self.pool} images, {self.spent.boxes} {UNITS[self.task]}; {budget}",
            *([f"weights  {facts.initial_weights}"] if facts and facts.initial_weights else []),
            *(f"amended  {amendment}" for amendment in self.amendments),
            *(f"warning  {warning}" for warning in (facts.warnings if facts else ())),
            *self._figures(),
            *(f"people   {answers_line(answers)}" for answers in self.answers),
            *(f"people   {corrections_line(*corrections)}" for corrections in self.corrections),
            *self._requested(),
            *([f"program  asked in {self.asks_program / 'ask'}"] if self.asks_program else []),
            *self._forecast(),
            *(f"limit    {limit.sentence}" for limit in self.limits),
            *([f"advice   {self.advice()}"] if self.rounds and (self.answers or self.requests) else []),
        ]

    def _reported(self) -> list[str]:
        """Return what an open round reported last, and how long the run still takes."""
        if self.open_round is None or not self.log.lines:
            return []
        now = f"now      {self.log.lines[-1].what} ({duration(self.log.age)} ago)"
        return [now, *([f"left     {self.left}"] if self.left else [])]

    def _figures(self) -> list[str]:
        if not self.rounds:
            return []
        lines = []
        measured = [record for record in self.rounds if record.diagnostics]
        if measured:
            diagnostics = ", ".join(f"{name} {value:.4g}" for name, value in measured[-1].diagnostics.items())
            lines.append(f"query    after round {measured[-1].round}: {diagnostics}")
        metrics = ", ".join(f"{k} {v:.3f}" for k, v in self.rounds[-1].metrics.items() if v is not None)
        exported = "; `alloop export` writes it" if self.task == "detection" else ""
        content = f"content  {{1}} is the sha256 of what round {{0}} trained on{exported}"
        return [*lines, f"last     {metrics}", *([content.format(*self.content)] if self.content else [])]

    def _forecast(self) -> list[str]:
        """Return how AP goes on, where the rounds say it."""
        boxes, values = self._curve()
        curve = forecast(boxes, values)
        if curve is None:
            return []
        return [f"forecast AP {RunForecast('', boxes, values, curve).after(None)}, twice those paid"]

    def _curve(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return the boxes paid for and AP, of the rounds that have one."""
        points = [(float(r.boxes), value) for r in self.rounds if (value := r.metrics.get("ap")) is not None]
        return tuple(boxes for boxes, _ in points), tuple(value for _, value in points)

    def _requested(self) -> list[str]:
        if not self.requests:
            return []
        text = f"{len(self.requests)} images, {self.predicted_boxes:.0f} boxes predicted"
        return [f"asked    {text}; run the same command to look for answers"]

    def advice(self) -> str:
        """Return in one sentence whether another round pays, by the curve, the charges and the open request."""
        boxes, cost = sum(c.boxes for c in self.charged), sum(c.cost for c in self.charged)
        upcoming = NextRound(
            self.predicted_boxes or self.charged[-1].boxes, cost / boxes if boxes else 1.0, self.gain_worth_having
        )
        finished = self.facts is not None and self.facts.rounds_planned == len(self.rounds)
        return advice(*self._curve(), None if finished else upcoming)


def read_status(folder: Path, gain_worth_having: float = WORTH) -> RunStatus:
    """Read the progress of a run.

    Args:
        folder: of the run.
        gain_worth_having: AP that the next round should gain; the advice compares with it.

    Raises:
        ConfigError: the folder holds no run.
        DamagedFileError: its ledger cannot be read.
    """
    with read_ledger(folder) as ledger:
        current, rounds, requests = ledger.open_round(), ledger.rounds(), AnnotationRequests(ledger)
        waiting = requests.pending()
        return RunStatus(
            facts=ledger.facts(),
            rounds=rounds,
            spent=ledger.spent(),
            pool=ledger.pool_size(),
            open_round=current,
            checkpoint_step=None if current is None else _checkpoint_step(ledger, current),
            answers=requests.answered(),
            waiting_round=waiting,
            requests=[] if waiting is None else requests.of_round(waiting),
            charged=ledger.charged(),
            asks_program=None if current is None else _unanswered(folder, current),
            gain_worth_having=gain_worth_having,
            content=content_of_last_round(ledger),
            log=read_log(folder),
            corrections=corrections_by_round(ledger),
            amendments=recorded_amendments(ledger),
            limits=run_limits(ledger, rounds),
        )


def _unanswered(folder: Path, round_: int) -> Path | None:
    return exchange_folder(folder, round_) if is_unanswered(folder, round_) else None


def _checkpoint_step(ledger: Ledger, round_: int) -> int | None:
    return max((step for _, _, step in ledger.files(round_) if step is not None), default=None)


def status_blocks(folder: Path, gain_worth_having: float = WORTH) -> list[str | Table]:
    """Return the lines about a run, or a table with one row for each run of a study."""
    folders = run_folders(folder)
    if folders == [folder]:
        return [*read_status(folder, gain_worth_having).lines()]
    statuses = [(run_folder.name, read_status(run_folder)) for run_folder in folders]
    rows = [
        (name, s.state, s.progress, s.content[1][:SHOWN] if s.content else "", f"{s.spent.images}", f"{s.spent.boxes}")
        for name, s in statuses
    ]
    warnings = dict.fromkeys(warning for _, status in statuses if status.facts for warning in status.facts.warnings)
    table = Table(("run", "state", "rounds", "content", "images", "boxes"), rows, left=4)
    return [table, *(f"warning: {warning}" for warning in warnings)]


def corrections_line(round_: int, images: int, boxes: int, cost: float) -> str:
    """Return what was taken in of corrected labels in one line."""
    return f"round {round_}: corrected labels of {images} booked images taken in; {boxes} more boxes, cost {cost:.2f}"


def answers_line(answers: RoundAnswers) -> str:
    """Return the answers to the annotation request of one round in one line."""
    states = ", ".join(f"{number} {state}" for state, number in sorted(answers.states.items()))
    predicted = f" (predicted {answers.predicted_boxes:.0f})" if answers.predicted_boxes else ""
    text = f"round {answers.round}: {states}; {answers.boxes} boxes{predicted}, cost {answers.cost:.2f}"
    if answers.seconds or answers.set_aside_seconds:
        text += f", {answers.seconds + answers.set_aside_seconds:.0f} s of work"
    edits = answers.edits
    shown = edits.accepted + edits.moved + edits.deleted
    if shown:
        kept = f"{edits.accepted} accepted, {edits.moved} moved, {edits.deleted} deleted"
        text += f"; of {shown} boxes shown {kept}; {edits.added} added"
    return text
