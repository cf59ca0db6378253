"""Rounds that people answer: record the requests, hand them over, wait, book.

A round is closed together with the requests for the next one. From then on each start of the run hands over what is
missing and looks at what came back. When every request is done or set aside, or the user accepts a part, the answers
are booked and the next round trains on them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from alloop.budget.amounts import Amount
from alloop.budget.charges import PassedOver
from alloop.data.annotation_json import annotation_sha256
from alloop.errors import ConfigError, WaitingError
from alloop.ledger.corrections import correct
from alloop.ledger.requests import AnnotationRequest, AnnotationRequests
from alloop.ledger.store import Ledger
from alloop.loop.buying import purchase
from alloop.loop.context import RunContext
from alloop.loop.first_batch import FirstBatch
from alloop.loop.fitting import RoundDetector, fitted
from alloop.loop.purchase_rules import passed_over_lines, rules_of_round
from alloop.loop.querying import open_query
from alloop.oracles.oracle import CLOSED, Answer, HumanOracle, PreAnnotations, Task
from alloop.randomness import rng
from alloop.values import Annotations, Detections, ImageId, Selection

MOST_REMARKS = 10  # printed; all of them are in run.db


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """What a round will ask people for, before it is recorded."""

    selection: Selection
    predicted_boxes: Sequence[float]
    pre_annotations: Mapping[ImageId, PreAnnotations]
    passed_over: Sequence[PassedOver] = ()


def first_requests(context: RunContext, batch: FirstBatch) -> RequestBatch:
    """Return the seed set to ask people for, chosen without any label: the head of an order of the pool."""
    order = tuple(islice(batch, context.experiment.config.loop.seed_set.number))
    utilities = np.array([batch.utilities.get(image_id, 0.0) for image_id in order])
    return RequestBatch(Selection(order, utilities), [0.0] * len(order), {})


def next_requests(
    context: RunContext, round_: int, labeled: Mapping[ImageId, Annotations], detector: RoundDetector
) -> RequestBatch | None:
    """Return what the strategy wants next, priced by predicted boxes; None when nothing is left to ask for."""
    set_aside = AnnotationRequests(context.ledger).set_aside()
    session = open_query(context, round_, labeled, detector, without=set_aside)
    if session is None:
        return None
    loop, rules = context.experiment.config.loop, rules_of_round(context, session)
    bought = purchase(session, loop, context.ledger.spent(), session.predicted_boxes, rules)
    if bought is None:
        return None
    for line in passed_over_lines(bought.passed_over):
        context.progress.say(line)
    shown = _pre_annotations(context, detector, bought.selection.image_ids)
    return RequestBatch(bought.selection, bought.boxes, shown, bought.passed_over)


def _pre_annotations(
    context: RunContext, detector: RoundDetector, image_ids: Sequence[ImageId]
) -> dict[ImageId, PreAnnotations]:
    """Return the boxes that people will be shown; a random share of the images, `oracle.blind`, shows none."""
    config, oracle = context.experiment.config, context.experiment.config.oracle
    if not oracle.show:
        return {}
    shown = [i for i in image_ids if rng(config.random_seed, "blind", int(i)).random() >= oracle.blind]
    view = fitted(context, context.experiment.splits.train, context.caches.pool, detector)
    detections = zip(shown, view.detections(shown), strict=True)
    return {image_id: _confident(of_image, oracle.show_threshold) for image_id, of_image in detections}


def _confident(detections: Detections, threshold: float) -> PreAnnotations:
    kept = detections.scores >= threshold
    return PreAnnotations(detections.boxes[kept], detections.labels[kept], detections.scores[kept])


def collect_waiting(context: RunContext, *, accept_partial: bool = False, accept_revisions: bool = False) -> None:
    """Look for the answers that a run waits for, if it does, and for changes of earlier ones."""
    waiting = AnnotationRequests(context.ledger).pending()
    if waiting is not None and isinstance(context.oracle, HumanOracle):
        note_revisions(context, context.oracle, waiting, accept=accept_revisions)
        collect(context, context.oracle, waiting, accept_partial=accept_partial)


def collect(context: RunContext, oracle: HumanOracle, round_: int, *, accept_partial: bool = False) -> None:
    """Hand over what is missing, look at what came back, and book it when the round is complete.

    Raises:
        WaitingError: people have not finished; it says where the tasks are and where each image stands.
    """
    requests, settings = AnnotationRequests(context.ledger), context.experiment.config.oracle
    asked = requests.of_round(round_)
    images = context.experiment.splits.train.dataset.images
    where = oracle.push(round_, [Task(images[request.image_id], request.pre_annotations) for request in asked])
    answers = oracle.pull(round_, [images[request.image_id] for request in asked])
    open_ = [request for request in asked if answers[request.image_id].state not in CLOSED]
    if open_ and not accept_partial:
        names = {image_id: images[image_id].file_name for image_id in answers}
        raise WaitingError(f"round {round_} waits for people: {where}\n{state_lines(asked, answers, names)}")
    requests.book(round_, answers, settings.rates, settings.seconds_cap)
    context.progress.say(f"round {round_} is answered: {_counts(answers)}")
    for image_id, answer in [(i, a) for i, a in answers.items() if a.remark][:MOST_REMARKS]:
        context.progress.say(f"  {images[image_id].file_name}: {answer.remark}")


def note_revisions(context: RunContext, oracle: HumanOracle, before: int, *, accept: bool = False) -> None:
    """Look for annotations that were changed after they were booked, and record them.

    Args:
        context: the run.
        oracle: who is asked.
        before: the round that waits for people.
        accept: train on them from that round on, and charge what the corrections cost; else they are only recorded.
    """
    requests = AnnotationRequests(context.ledger)
    images = context.experiment.splits.train.dataset.images
    for round_ in range(before):
        booked = [images[request.image_id] for request in requests.of_round(round_) if request.state == "done"]
        answers = oracle.pull(round_, booked) if booked else {}
        changed = requests.revise(before, answers)
        if accept:
            _take_in(context, round_, before, answers)
            continue
        if changed:
            count = "1 annotation" if len(changed) == 1 else f"{len(changed)} annotations"
            context.progress.say(
                f"{count} of round {round_} changed after it was booked "
                f"({images[changed[0]].file_name} first): recorded as revisions, not trained on, not charged; "
                "--accept-revisions takes them in"
            )


def _take_in(context: RunContext, round_: int, before: int, answers: Mapping[ImageId, Answer]) -> None:
    """Take in the corrected labels of a round, all or none.

    Raises:
        ConfigError: the budget does not pay for them.
    """
    ledger, config, dataset = context.ledger, context.experiment.config, context.experiment.splits.train.dataset
    now = ledger.annotations(answers)
    corrected = {
        image_id: (answer, truth)
        for image_id, answer in answers.items()
        if (truth := answer.annotations) is not None and annotation_sha256(truth) != annotation_sha256(now[image_id])
    }
    if not corrected:
        return
    with ledger.transaction():
        work = {image_id: answer for image_id, (answer, _) in corrected.items()}
        seconds = AnnotationRequests(ledger).book_seconds(before, work, config.oracle.seconds_cap)
        truths = {image_id: truth for image_id, (_, truth) in corrected.items()}
        taken = correct(ledger, before, truths, config.oracle.rates, seconds)
        _refuse_over_budget(ledger, config.loop.budget)
    boxes, cost = sum(one.boxes for one in taken), sum(one.cost for one in taken)
    count = "1 corrected image" if len(taken) == 1 else f"{len(taken)} corrected images"
    name = dataset.images[taken[0].image_id].file_name
    context.progress.say(
        f"{count} of round {round_} ({name} first): trained on from round {before}, {boxes} more boxes, cost {cost:.2f}"
    )


def _refuse_over_budget(ledger: Ledger, budget: Amount | None) -> None:
    if budget is not None and ledger.spent().of(budget.unit) > budget.number:
        msg = f"loop.budget: {budget} does not pay for the corrected labels; raise it, or do not take them in"
        raise ConfigError(msg)


def _counts(answers: Mapping[ImageId, Answer]) -> str:
    counts = Counter(answer.state for answer in answers.values())
    return ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))


def state_lines(
    asked: Sequence[AnnotationRequest], answers: Mapping[ImageId, Answer], names: Mapping[ImageId, str]
) -> str:
    """Return how many images are in which state, and what stands in the way, with the file names of the images."""
    lines = [f"{len(asked)} images: {_counts(answers)}. Run the same command again when they are done."]
    for request in asked:
        answer = answers[request.image_id]
        if answer.state in ("invalid", "conflict", "missing"):
            lines.append(f"  {names[request.image_id]} is {answer.state}: {answer.remark}")
    return "\n".join(lines[: MOST_REMARKS + 1])
