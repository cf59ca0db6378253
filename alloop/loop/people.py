"""Rounds that people answer: ask, hand over, wait, book.

A round is closed by what it asks for: the questions are recorded together with its figures. From then on
each start of the run hands over what is missing and looks at what came back; when everything is done or
set aside (or the user accepts a part), the answers are booked and the next round trains on them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from alloop.budget.amounts import buy
from alloop.data.images import FolderImages
from alloop.detectors.protocol import Detector
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.requests import AnnotationRequest, AnnotationRequests, Rates
from alloop.loop.experiment import Experiment, lacking
from alloop.loop.fitting import RunContext, fitted
from alloop.loop.pool import seed_set_order
from alloop.loop.querying import asking, first_count
from alloop.oracles.answers import AnswerRules
from alloop.oracles.folder import Folder
from alloop.oracles.oracle import Answer, People, PreAnnotations, Task
from alloop.query import Need
from alloop.randomness import rng
from alloop.strategy import make_strategy
from alloop.values import Annotations, Detections, ImageId, Selection

_CLOSED = ("done", "skipped")
MOST_REMARKS = 10  # printed; all of them are in run.db


@dataclass(frozen=True, slots=True)
class Asked:
    """What a round asks people for, before it is recorded."""

    selection: Selection
    predicted_boxes: list[float]
    shown: Mapping[ImageId, PreAnnotations]


def people_of(experiment: Experiment) -> People | None:
    """Whom the config wants asked; None in simulation."""
    oracle, train = experiment.config.oracle, experiment.splits.train
    if oracle.name == "simulated":
        return None
    if not isinstance(train.images, FolderImages):
        msg = f"oracle.name: {oracle.name} needs a pool of image files"
        raise ConfigError(msg)
    reading = AnswerRules(train.dataset.class_names, oracle.policy, oracle.default_seconds)
    if oracle.name == "label_studio":
        from alloop.oracles.label_studio import LabelStudioPeople  # noqa: PLC0415

        return LabelStudioPeople.of(oracle, train.images, reading)
    assert oracle.folder is not None
    return Folder(oracle.folder, oracle.format, oracle.policy, oracle.default_seconds).connect(train)


def first_batch(context: RunContext, table: Mapping[str, str]) -> Asked:
    """The seed set that people are asked for, chosen without any label: at random, or by a strategy that can.

    Raises:
        ConfigError: a strategy that needs more than embeddings of the weights that training starts from.
    """
    config = context.experiment.config
    pool, number = context.experiment.splits.train.dataset.images, config.loop.seed_set.number
    name = config.oracle.first_batch
    if name == "random":
        order = seed_set_order(pool, config.random_seed)[:number]
        return Asked(Selection(tuple(order), np.zeros(len(order))), [0.0] * len(order), {})
    strategy = make_strategy(name, {}, table)
    needed = lacking(strategy, frozenset({Need.EMBEDDINGS}))
    if needed:
        msg = f"oracle.first_batch: {name!r} needs {', '.join(needed)}, and nothing is trained yet; try k_center"
        raise ConfigError(msg)
    detector = context.experiment.new_detector(0)
    detector.module.to(context.experiment.device)
    question = asking(context, 0, {}, detector, strategy)
    assert question is not None
    selection = question.select(min(number, len(pool)))
    return Asked(selection, [0.0] * len(selection.image_ids), {})


def asked_of_people(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Annotations], detector: Detector
) -> Asked | None:
    """What the strategy wants next, cut at the quota and the budget by predicted boxes; None when nothing is left."""
    config = context.experiment.config
    question = asking(context, round_, labeled, detector, without=AnnotationRequests(context.ledger).set_aside())
    if question is None:
        return None
    count = first_count(config.loop.query_size, question.mean_boxes, question.unlabeled)
    while True:
        selection = question.select(count)
        predicted = question.predicted_boxes(selection)
        ranking = ((i, round(boxes)) for i, boxes in zip(selection.image_ids, predicted, strict=True))
        purchase = buy(ranking, config.loop.query_size, context.ledger.spent(), config.loop.budget)
        if purchase.quota_met or purchase.budget_exhausted or count == question.unlabeled:
            break
        count = min(2 * count, question.unlabeled)
    taken = len(purchase.image_ids)
    if not taken:
        return None
    cut = Selection(purchase.image_ids, selection.utilities[:taken], diagnostics=selection.diagnostics)
    return Asked(cut, predicted[:taken], _shown(context, detector, purchase.image_ids))


def _shown(context: RunContext, detector: Detector, image_ids: tuple[ImageId, ...]) -> dict[ImageId, PreAnnotations]:
    """The boxes that people will see; none for the blind share."""
    config = context.experiment.config
    if not config.oracle.show:
        return {}
    seeing = [i for i in image_ids if rng(config.random_seed, "blind", int(i)).random() >= config.oracle.blind]
    found = fitted(context, context.experiment.splits.train, context.caches["pool"], detector).detections(seeing)
    return {i: _confident(seen, config.oracle.show_threshold) for i, seen in zip(seeing, found, strict=True)}


def _confident(seen: Detections, threshold: float) -> PreAnnotations:
    kept = seen.scores >= threshold
    return PreAnnotations(seen.boxes[kept], seen.labels[kept], seen.scores[kept])


def collect(context: RunContext, people: People, *, accept_partial: bool = False) -> None:
    """Hand over what is missing, look at what came back, and book it when the round is complete.

    Raises:
        WaitingError: people have not finished; it tells where the tasks are and where each image stands.
    """
    questions, config = AnnotationRequests(context.ledger), context.experiment.config
    round_ = questions.pending()
    assert round_ is not None
    asked = questions.of_round(round_)
    images = context.experiment.splits.train.dataset.images
    where = people.push(round_, [Task(images[question.image_id], question.shown) for question in asked])
    answers = people.pull(round_, [images[question.image_id] for question in asked])
    open_ = [q for q in asked if answers[q.image_id].state not in _CLOSED]
    if open_ and not accept_partial:
        raise WaitingError(f"round {round_} waits for people: {where}\n{state_lines(asked, answers)}")
    rates = Rates(**config.oracle.rates.model_dump())
    questions.book(round_, answers, rates, config.oracle.seconds_cap)
    context.progress.say(f"round {round_} is answered: {_counts(answers)}")
    for image_id, answer in [(i, a) for i, a in answers.items() if a.remark][:MOST_REMARKS]:
        context.progress.say(f"  image {image_id}: {answer.remark}")


def note_revisions(context: RunContext, people: People, before: int) -> None:
    """Look for annotations that were changed after they were booked; they are recorded, not trained on, not charged."""
    questions = AnnotationRequests(context.ledger)
    images = context.experiment.splits.train.dataset.images
    for round_ in range(before):
        booked = [images[q.image_id] for q in questions.of_round(round_) if q.state == "done"]
        changed = questions.revise(before, people.pull(round_, booked)) if booked else []
        if changed:
            first = (
                f"{len(changed)} annotations of round {round_} were changed after they were booked, image {changed[0]}"
            )
            context.progress.say(f"{first} first: recorded as revisions, not trained on, not charged")


def _counts(answers: Mapping[ImageId, Answer]) -> str:
    counts = Counter(answer.state for answer in answers.values())
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))


def state_lines(asked: list[AnnotationRequest], answers: Mapping[ImageId, Answer]) -> str:
    """How many images are in which state, and what stands in the way."""
    lines = [f"{len(asked)} images: {_counts(answers)}. Run the same command again when they are done."]
    for question in asked:
        answer = answers[question.image_id]
        if answer.state in ("invalid", "conflict", "missing"):
            lines.append(f"  image {question.image_id} is {answer.state}: {answer.remark}")
    return "\n".join(lines[: MOST_REMARKS + 1])
