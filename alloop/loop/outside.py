"""The detector of a round that another program trains: ask, run or wait, read the answers, keep them."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from alloop.data.notes import Notes
from alloop.data.splits import Split
from alloop.detectors.external import External
from alloop.errors import ConfigError, DataError, TrainingError, WaitingError
from alloop.external.answers import Answers
from alloop.external.asking import Ask
from alloop.external.folders import MANIFEST, exchange_folder
from alloop.external.telling import read_answers
from alloop.loop.context import RunContext
from alloop.loop.experiment import Experiment
from alloop.loop.round_files import model_path, trained_weights
from alloop.predictions.fitted import PredictedDetector
from alloop.predictions.rows import Classes
from alloop.query import Need
from alloop.values import Annotations, ImageId

if TYPE_CHECKING:
    from alloop.external.program import Program


@dataclass(frozen=True, slots=True)
class OutsideDetector:
    """The detector of a round, known by its answers."""

    answers: Answers
    splits: Mapping[str, Split]

    def on(self, split: Split) -> PredictedDetector:
        """Return the detector as it may be shown to a strategy, on the images of a split.

        About a split that was not asked, such as the reference for a strategy that does not look at it, it knows
        nothing and says so.
        """
        for name, own in self.splits.items():
            if own is split:
                return self.answers.detector_of(name)
        return PredictedDetector(self.answers.class_names, None)


def asked(
    context: RunContext, plugin: External, round_: int, labeled: Mapping[ImageId, Annotations]
) -> OutsideDetector:
    """Ask the program of a round, and keep what it answers in the place of weights.

    Raises:
        WaitingError: nobody has run it yet.
        DataError: an answer that cannot be used; nothing is kept.
        TrainingError: the program failed, or it answered nothing.
    """
    folder = exchange_folder(context.ledger.folder, round_)
    ask = _ask(context.experiment, plugin, round_, labeled)
    ask.write(folder / "ask")
    answers = _Exchange(context, plugin, ask, folder).answers()
    context.ledger.store(model_path(round_), answers.to_bytes(), round_)
    return restored_outside(context, round_)


def restored_outside(context: RunContext, round_: int) -> OutsideDetector:
    """Return the detector of a round that was answered already."""
    names = context.experiment.splits.train.dataset.class_names
    answers = Answers.from_bytes(trained_weights(context.ledger, round_), names, model_path(round_))
    return OutsideDetector(answers, _predicted(context.experiment))


def wanted_files(experiment: Experiment) -> dict[str, list[str]]:
    """Return what is asked beyond the labels, for the key of a shared model; nothing where alloop trains."""
    if not isinstance(experiment.detector, External):
        return {}
    return {"wanted": _ask(experiment, experiment.detector, 0, {}).wanted}


def wanted_sigmas(experiment: Experiment) -> tuple[float, ...]:
    """Return the standard deviations of the noise under which the strategy wants predictions.

    Raises:
        ConfigError: a strategy that needs predictions under noise and does not say of which noise.
    """
    if Need.NOISY_DETECTIONS not in experiment.strategy.needs:
        return ()
    sigmas: Sequence[float] | None = getattr(experiment.strategy, "sigmas", None)
    if sigmas is None:
        name = experiment.config.strategy.name
        msg = f"strategy.name: {name!r} needs predictions under noise, and has no field `sigmas` that says of which"
        raise ConfigError(msg)
    return tuple(map(float, sigmas))


def _ask(experiment: Experiment, plugin: External, round_: int, labeled: Mapping[ImageId, Annotations]) -> Ask:
    pool, distance = experiment.splits.train.dataset, experiment.config.loop.min_distance
    by_cosine = distance is not None and distance.unit == "cosine"
    return Ask(
        round=round_,
        random_seed=experiment.config.random_seed,
        classes=Classes(pool.class_names, pool.category_ids),
        labeled=labeled,
        predict=_predicted(experiment),
        sigmas=wanted_sigmas(experiment),
        embeddings=by_cosine or Need.EMBEDDINGS in experiment.strategy.needs,
        regions=Need.REGION_FEATURES in experiment.strategy.needs,
        labeled_as=plugin.labeled_as,
    )


def _predicted(experiment: Experiment) -> dict[str, Split]:
    """Return the splits to predict: the pool, the test split, and the reference split where a strategy looks at it."""
    splits = {"pool": experiment.splits.train, "test": experiment.splits.test}
    if Need.REFERENCE in experiment.strategy.needs and not experiment.splits.shared:
        splits["reference"] = experiment.splits.reference
    return splits


@dataclass(frozen=True, slots=True)
class _Exchange:
    """One round's exchange with the program through its folder."""

    context: RunContext
    plugin: External
    ask: Ask
    folder: Path

    @property
    def _tell(self) -> Path:
        return self.folder / "tell"

    def answers(self) -> Answers:
        """Return the answers: those that are there, else by running the program where there is a command."""
        if self.plugin.command is None:
            return self._waited_for()
        program = self._program()
        program.wait_for_earlier(self.context.progress)
        if (self._tell / MANIFEST).is_file():
            try:
                return self._read()
            except DataError as error:
                self.context.progress.say(f"running the program again: {error}")
        shutil.rmtree(self._tell, ignore_errors=True)  # nothing of an answer that was broken off is mixed with the next
        for name in ("tell", "work"):
            (self.folder / name).mkdir(exist_ok=True)
        self.context.progress.say(f"round {self.ask.round}: running {program.words[0]} (log: {program.log})")
        program.run()
        if not (self._tell / MANIFEST).is_file():
            msg = f"detector.command: {program.words[0]} ended without an answer: {self._tell / MANIFEST} is not there"
            raise TrainingError(f"{msg}; {program.last_lines()}")
        return self._read()

    def _waited_for(self) -> Answers:
        self._tell.mkdir(exist_ok=True)
        if not (self._tell / MANIFEST).is_file():
            msg = (
                f"round {self.ask.round} waits for your detector: train on {self.folder / 'ask'}, predict into "
                f"{self._tell} ({', '.join(self.ask.wanted)}) and write {MANIFEST} there last. "
                "Run the same command again then."
            )
            raise WaitingError(msg)
        return self._read()

    def _read(self) -> Answers:
        notes = Notes()
        answers = read_answers(self._tell, self.ask, notes)
        for note in notes.listed():
            self.context.progress.say(str(note))
        return answers

    def _program(self) -> "Program":
        from alloop.external.program import Program  # noqa: PLC0415  its locks exist on Unix alone

        places = {name: self.folder / name for name in ("ask", "tell", "work")}
        values = {**places, "round": self.ask.round, "seed": self.ask.random_seed, "python": sys.executable}
        words = self.plugin.arguments()
        for key, value in values.items():
            words = [word.replace(f"{{{key}}}", str(value)) for word in words]
        lock = self.folder / "program.lock"
        return Program(words, self.folder / "log.txt", lock, self.plugin.time_limit_hours * 3600)
