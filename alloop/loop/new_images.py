"""Images that a pool gained after a run began: taken in on request, if nothing else about the data differs.

The images that were there keep their ids, names and labels; that is checked by the fingerprint of the data. From then
on the strategy is offered the new ones, too. A round that was trained before never sees them.
"""

from collections.abc import Set as AbstractSet
from dataclasses import replace

from alloop.data.cache_folder import CacheFolder
from alloop.data.splits import Splits
from alloop.errors import ConfigError
from alloop.ledger.amendments import Amendment, record_amendment
from alloop.ledger.facts import RunFacts
from alloop.ledger.image_sizes import record_image_sizes, recorded_image_sizes
from alloop.ledger.perceptual_hashes import record_perceptual_hashes
from alloop.ledger.split_images import record_pool_images, recorded_images
from alloop.ledger.store import Ledger
from alloop.loop.recorded_data import splits_by_name
from alloop.loop.split_leaks import checked_images, leak_warnings
from alloop.progress import Progress
from alloop.values import ImageId

FACTS = ("data", "pool_class_boxes", "pool_class_images", "leaks")  # what new images change


def take_in_new_images(
    ledger: Ledger, facts: RunFacts, splits: Splits, progress: Progress, kept: CacheFolder | None
) -> RunFacts:
    """Record the images that the pool gained, and return the facts that hold since.

    Args:
        ledger: of a run that has begun.
        facts: its facts until now.
        splits: the data of now.
        progress: where to report progress, and whether a new image is in another split.
        kept: where fingerprints of images are found.

    Raises:
        ConfigError: anything else about the data differs, or the run is of a version that did not record its images.
        DataError: an image file that cannot be read.
    """
    pool = splits.train.dataset
    known = {image_id for image_id, _, _ in recorded_images(ledger).get("train", [])}
    new = pool.images.keys() - known
    if not new:
        return facts
    _refuse_other_changes(ledger, facts, splits, known)
    images = checked_images(splits_by_name(splits), progress, kept)
    for warning in leak_warnings(images.leaks):
        progress.say(f"warning: {warning}")
    people = facts.asks_people
    since = replace(
        facts,
        data=splits.fingerprint(),
        pool_class_boxes=None if people else tuple(pool.class_counts()),
        pool_class_images=None if people else tuple(pool.class_images()),
        leaks=images.leaks,
    )
    amendment = Amendment(len(ledger.rounds()), {"the pool": (_images(len(known)), _images(len(pool.images)))})
    with ledger.transaction():
        record_pool_images(ledger, [row for row in images.hashed["train"] if row[0] in new])
        record_perceptual_hashes(ledger, {i: value for i, value in images.perceptual.items() if i in new})
        record_image_sizes(ledger, [pool.images[image_id] for image_id in sorted(new)])
        rows = since.rows()
        record_amendment(ledger, amendment, {name: rows[name] for name in FACTS})
    progress.say(f"{ledger.folder}: amended {amendment}")
    return since


def _images(number: int) -> str:
    return "1 image" if number == 1 else f"{number} images"


def _refuse_other_changes(ledger: Ledger, facts: RunFacts, splits: Splits, known: AbstractSet[ImageId]) -> None:
    gone = sorted(known - splits.train.dataset.images.keys())
    if gone:
        msg = f"{ledger.folder}: image {gone[0]} is not in the pool any more; a pool may gain images and lose none"
        raise ConfigError(msg)
    if not recorded_image_sizes(ledger):
        msg = f"{ledger.folder}: this run is of an older version, which did not record its images; its pool cannot grow"
        raise ConfigError(msg)
    before = replace(splits, train=replace(splits.train, dataset=splits.train.dataset.restricted(known)))
    if before.fingerprint() != facts.data:
        what = "an image that was there has another id, name, size or label, or the reference or test split differs"
        msg = f"{ledger.folder}: more than new images differs from what this run began with: {what}"
        raise ConfigError(msg)
