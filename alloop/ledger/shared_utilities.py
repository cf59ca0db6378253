"""How many of the images that were chosen together have one utility."""

from dataclasses import dataclass

from alloop.ledger.store import Ledger


@dataclass(frozen=True, slots=True)
class SharedUtility:
    """The utility that the most images of one query share.

    Attributes:
        round: after whose training the images were chosen.
        utility: what they share.
        images: how many have it.
        chosen: how many were chosen.
    """

    round: int
    utility: float
    images: int
    chosen: int


def shared_utilities(ledger: Ledger) -> list[SharedUtility]:
    """Return one for each query in order; a seed set has no utilities."""
    rows = ledger.database.read(  # SQLite takes a column beside MAX from the row of the maximum
        "SELECT round, utility, MAX(images) AS images, SUM(images) AS chosen FROM "
        "(SELECT round, utility, COUNT(*) AS images FROM selection GROUP BY round, utility) "
        "GROUP BY round ORDER BY round"
    )
    return [SharedUtility(*row) for row in rows]
