"""Runs of older versions that did something otherwise, where they stand beside newer ones."""

from collections.abc import Sequence

from alloop.results.runs import Run, config_of


def decoded_whole(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of an older version, which decoded large JPEG files whole, where other runs do not."""
    ways = [config_of(run).get("training", {}).get("decoding") for run in runs]
    older = [run for run, way in zip(runs, ways, strict=True) if way is None]
    return older if "reduced" in ways else []


def scored_by_root(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of an older version, whose score of FCOS was a root, where other runs have another score."""
    older = [
        run for run in runs if not run.facts.fcos_score and config_of(run).get("detector", {}).get("name") == "fcos"
    ]
    return older if any(run.facts.fcos_score for run in runs) else []
