"""What was paid for: one charge per image and the sums of a round; what was not; and what people did to shown boxes."""

from dataclasses import dataclass

from alloop.values import ImageId


@dataclass(frozen=True, slots=True)
class Charge:
    """One booked payment.

    `round` is the first round that trains on the image. `predicted_boxes` is unknown for a seed set drawn at random.
    """

    round: int
    image_id: ImageId
    boxes: int
    seconds: float
    cost: float
    predicted_boxes: float | None = None


@dataclass(frozen=True, slots=True)
class RoundCharges:
    """The charges of one round, added up.

    `empty` counts images without a box. `seconds` are 0 in simulation. `cost` is as booked, by the prices of the run.
    """

    round: int
    images: int
    boxes: int
    empty: int
    seconds: float
    cost: float = 0.0
    predicted_boxes: float | None = None


@dataclass(frozen=True, slots=True)
class PassedOver:
    """An image that a rule did not admit.

    Attributes:
        image_id: the image.
        rule: the name of the first rule that did not admit it.
        boxes: the boxes that it was priced at.
        bought: whether it was bought at last, because the quota could not be met without it.
    """

    image_id: ImageId
    rule: str
    boxes: float
    bought: bool = False


@dataclass(frozen=True, slots=True)
class Edits:
    """How many of the boxes that people were shown they accepted, moved and deleted, and how many they added."""

    accepted: int
    moved: int
    deleted: int
    added: int
