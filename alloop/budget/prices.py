"""What labeled images cost under another way of paying: stored charges are priced again, nothing is trained again.

cost = images * image + boxes * box + images without a box * empty + recorded seconds * second + booked cost * booked
"""

from dataclasses import dataclass, fields

from alloop.errors import ConfigError, nearest


@dataclass(frozen=True, slots=True)
class RoundCharges:
    """What the images that entered the training in one round add up to."""

    round: int
    images: int
    boxes: int
    empty: int  # images without a box
    seconds: float  # as people were measured; 0 in simulation
    cost: float = 0.0  # as it was booked, by the prices of the run
    predicted_boxes: float | None = None  # before they were paid; unknown for a seed set drawn at random


@dataclass(frozen=True, slots=True)
class CostModel:
    """Prices of an image, of each of its boxes, of an image without a box, of a recorded second, of a booked unit."""

    name: str
    unit: str = ""
    image: float = 0.0
    box: float = 0.0
    empty: float = 0.0
    second: float = 0.0
    booked: float = 0.0

    def __post_init__(self) -> None:
        """Raise ConfigError when a price is negative or not finite, or when all are 0."""
        prices = [getattr(self, key) for key in PRICES]
        if not all(0 <= price < float("inf") for price in prices) or not any(prices):
            msg = f"--cost {self.name}: expected prices of 0 or more, one of them above 0, found {prices}"
            raise ConfigError(msg)

    def cost(self, charged: RoundCharges) -> float:
        """What a round's images cost."""
        return (
            self.image * charged.images
            + self.box * charged.boxes
            + self.empty * charged.empty
            + self.second * charged.seconds
            + self.booked * charged.cost
        )

    def __str__(self) -> str:
        """Name, and the unit where the name is not the unit itself."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


PRICES = tuple(field.name for field in fields(CostModel) if field.name not in ("name", "unit"))
BOXES = CostModel("boxes", box=1)
IMAGES = CostModel("images", image=1)
COST_MODELS = {
    model.name: model
    for model in (
        BOXES,
        IMAGES,
        CostModel("seconds", second=1),
        CostModel("booked", booked=1),
        # A box of ILSVRC's quality, drawn and verified by crowd workers, and one by clicks on its four extreme points:
        # Papadopoulos et al., Extreme clicking for efficient object annotation, ICCV 2017
        CostModel("draw", "seconds", box=35),
        CostModel("extreme_click", "seconds", box=7),
    )
}


def cost_model(text: str) -> CostModel:
    """A model by name, or from prices: `image=0.01,box=0.06,unit=EUR`.

    Raises:
        ConfigError: neither.
    """
    if "=" not in text:
        if text not in COST_MODELS:
            msg = f"--cost {text}: expected prices such as image=0.01,box=0.06,unit=EUR, or a name"
            raise ConfigError(f"{msg}{nearest(text, COST_MODELS)}")
        return COST_MODELS[text]
    prices: dict[str, float] = {}
    unit = "cost"
    for part in text.split(","):
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key == "unit":
            unit = value
        elif key in PRICES:
            prices[key] = _number(key, value)
        else:
            raise ConfigError(f"--cost {text}: unknown price {key!r}{nearest(key, [*PRICES, 'unit'])}")
    return CostModel(unit, "", *(prices.get(key, 0.0) for key in PRICES))


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError:
        msg = f"--cost: {key}: expected a number, found {value!r}"
        raise ConfigError(msg) from None
