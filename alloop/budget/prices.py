"""What annotation work costs: one price list, used when work is booked and when booked work is priced again.

    cost = images * image + boxes * box + empty images * empty + seconds * second

Where people were shown boxes, the boxes are priced by what became of each: accepted, moved, deleted or added.
"""

import math
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alloop.budget.charges import Edits, RoundCharges
from alloop.errors import ConfigError, nearest

Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """Prices of annotation work, in any one currency."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    image: Annotated[Price, Field(description="price of an image, also of an empty one")] = 0.0
    box: Annotated[Price, Field(description="price of a box that came back")] = 1.0
    empty: Annotated[Price, Field(description="price of an image without a box, besides `image`")] = 0.0
    second: Annotated[Price, Field(description="price of a second of reported work")] = 0.0
    accepted: Annotated[Price | None, Field(description="a box that was shown and kept; `box` by default")] = None
    moved: Annotated[Price | None, Field(description="a box that was shown and corrected; `box` by default")] = None
    added: Annotated[Price | None, Field(description="a box that was not shown and drawn; `box` by default")] = None
    deleted: Annotated[Price, Field(description="price of a box that was shown and removed")] = 0.0

    def cost(
        self, *, images: int = 1, boxes: int, empty: int = 0, seconds: float = 0.0, edits: Edits | None = None
    ) -> float:
        """Return the cost of some images.

        Args:
            images: number of images.
            boxes: number of boxes that came back.
            empty: number of images without a box.
            seconds: reported seconds of work.
            edits: what became of the boxes that people were shown; None where none were shown.
        """
        drawn = self.box * boxes if edits is None else self._cost_of(edits)
        return self.image * images + drawn + self.empty * empty + self.second * seconds

    def correction(self, edits: Edits, seconds: float) -> float:
        """Return the cost of correcting labels that were paid for. A kept box is free, and a moved one without a rate.

        Args:
            edits: what became of the boxes that were paid for.
            seconds: reported seconds of work.
        """
        added = self.box if self.added is None else self.added
        moved = self.moved or 0.0
        return moved * edits.moved + added * edits.added + self.deleted * edits.deleted + self.second * seconds

    def _cost_of(self, edits: Edits) -> float:
        accepted, moved, added = (
            self.box if price is None else price for price in (self.accepted, self.moved, self.added)
        )
        return accepted * edits.accepted + moved * edits.moved + added * edits.added + self.deleted * edits.deleted


@dataclass(frozen=True, slots=True)
class CostModel:
    """A named way of pricing booked rounds again; nothing is trained again.

    `booked` is the price of one unit of the cost that the run itself booked.
    """

    name: str
    unit: str = ""
    prices: PriceList = field(default_factory=PriceList)
    booked: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError when a price is negative or not finite, or when all prices are 0."""
        prices = [price for price in (*asdict(self.prices).values(), self.booked) if price is not None]
        if not all(0 <= price < math.inf for price in prices) or not any(prices):
            msg = f"--cost {self.name}: expected prices of 0 or more, one of them above 0, found {prices}"
            raise ConfigError(msg)

    def cost(self, charges: RoundCharges) -> float:
        """Return what the images that one round charged cost."""
        priced = self.prices.cost(
            images=charges.images, boxes=charges.boxes, empty=charges.empty, seconds=charges.seconds
        )
        return priced + self.booked * charges.cost

    @property
    def needs_seconds(self) -> bool:
        """Whether the cost depends on recorded seconds, which only people's rounds have."""
        return self.prices.second > 0

    def to_json(self) -> dict[str, str | float]:
        """Return the name, the unit and every price, as `compare --format json` prints them."""
        prices = {name: getattr(self.prices, name) for name in REPRICED}
        return {"name": self.name, "unit": self.unit, **prices, "booked": self.booked}

    def __str__(self) -> str:
        """Return the name, and the unit where the name is not the unit itself."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


BOXES = CostModel("boxes", prices=PriceList(box=1))
IMAGES = CostModel("images", prices=PriceList(image=1, box=0.0))
COST_MODELS = {
    model.name: model
    for model in (
        BOXES,
        IMAGES,
        CostModel("seconds", prices=PriceList(second=1, box=0.0)),
        CostModel("booked", prices=PriceList(box=0.0), booked=1),
        # A box of ILSVRC's quality, drawn and verified by crowd workers, and one by clicks on its four extreme points:
        # Papadopoulos et al., Extreme clicking for efficient object annotation, ICCV 2017
        CostModel("draw", "seconds", prices=PriceList(box=35)),
        CostModel("extreme_click", "seconds", prices=PriceList(box=7)),
    )
}
# what becomes of boxes that were shown is not stored per round, so edits cannot be priced again
REPRICED = tuple(item.name for item in fields(PriceList) if item.name not in ("accepted", "moved", "added", "deleted"))


def cost_model(text: str) -> CostModel:
    """Return a cost model by its name, or from prices such as `image=0.01,box=0.06,unit=EUR`.

    Raises:
        ConfigError: an unknown name or price, or a price that is not a number.
    """
    if "=" not in text:
        if text not in COST_MODELS:
            msg = f"--cost {text}: expected prices such as image=0.01,box=0.06,unit=EUR, or a name"
            raise ConfigError(f"{msg}{nearest(text, COST_MODELS)}")
        return COST_MODELS[text]
    unit, prices = "cost", dict.fromkeys(("box",), 0.0)
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key == "unit":
            unit = value
        elif key in (*REPRICED, "booked"):
            prices[key] = _number(key, value)
        else:
            known = [*REPRICED, "booked", "unit"]
            raise ConfigError(f"--cost {text}: unknown price {key!r}{nearest(key, known)}")
    return CostModel(unit, booked=prices.pop("booked", 0.0), prices=PriceList(**prices))


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        msg = f"--cost: {key}: expected a number, found {value!r}"
        raise ConfigError(msg) from None
