"""What is recorded about a run when it begins and never changes: the experiment, its data, and the environment."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from alloop.budget.amounts import Amount
from alloop.plugins import load_class


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Everything besides the experiment that the last bits of a result depend on, and the command that was given."""

    device: str = ""
    threads: str = ""
    torch: str = ""
    torchvision: str = ""
    numpy: str = ""
    decoder: str = ""
    alloop: str = ""
    python: str = ""
    machine: str = ""
    hardware: str = ""
    command: str = ""


@dataclass(frozen=True, slots=True)
class SplitLeaks:
    """The images of one split that another one holds too.

    Attributes:
        split: `test` or `reference`.
        of: the other split; `train` is the pool.
        images: the images of `split`.
        identical: those with the bytes of an image of the other split.
        near: those that only look like one, by their perceptual hash.
        bits: the greatest number of bits in which hashes of such images differ.
        undecoded: images of both splits that could not be decoded, so that nothing is known about them.
        identical_pairs: file name and other file name of the first identical images.
        near_pairs: file name, other file name and distance in bits of the first images that only look alike.
    """

    split: str
    of: str
    images: int
    identical: int
    near: int
    bits: int
    undecoded: int
    identical_pairs: tuple[tuple[str, str], ...] = ()
    near_pairs: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The facts of one run; each is one row of the table `fact` of `run.db`.

    Attributes:
        config: the resolved config as YAML.
        config_sha256: the hash of that text.
        data: the fingerprint of the three splits.
        classes: class names in label order; None where an older version did not record them.
        category_ids: ids of the classes in the annotation file of the pool, in label order; None where an older version
            did not record them.
        pool_class_boxes: boxes of each class in the pool; None where people draw them.
        pool_class_images: images of the pool that hold each class; None where people draw the boxes.
        replicate: 0, or 1, 2, ... for a run that repeats another to measure its noise.
        strategy: the name of the strategy.
        random_seed: the seed of all random choices.
        seed_set_sha256: the hash of the ids of the seed set.
        oracle: the name of the oracle.
        asks_people: whether the oracle asks people; False in simulation.
        budget: the permission for the whole run, if there is one.
        rounds_planned: how many rounds the run will have.
        label_using: whether the strategy looked at labels that were not paid for.
        reference_is_test: whether one split serves as reference and as test.
        environment: versions, device, threads, command.
        contents: sha256 of the file or folder behind each key of the config that is a path, for paths that only the
            run reads; None where an older version did not record them.
        folder: the folder of the run when it began; from it the data are found after both were moved.
        fcos_score: `product` where FCOS's score is class probability times centerness; empty in a run of an older
            version, which took the root of that.
        initial_weights: what was loaded from the file of `detector.weights`, in one sentence; empty if it is none.
        warnings: what the user was warned about when the run began, one sentence each.
        leaks: images that two splits share, for each two splits; None where an older version did not look for them.
        task: what the experiment is about, `detection` or `classification`.
    """

    config: str
    config_sha256: str = ""
    data: str = ""
    classes: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] | None = None
    pool_class_boxes: tuple[int, ...] | None = None
    pool_class_images: tuple[int, ...] | None = None
    replicate: int = 0
    strategy: str = "unknown"
    random_seed: int = 0
    seed_set_sha256: str = ""
    oracle: str = "simulated"
    asks_people: bool = False
    budget: Amount | None = None
    rounds_planned: int | None = None
    label_using: bool = False
    reference_is_test: bool = False
    environment: Environment = Environment()
    contents: Mapping[str, str] | None = field(default=None, hash=False)
    folder: str = ""
    fcos_score: str = ""
    initial_weights: str = ""
    warnings: tuple[str, ...] = ()
    leaks: tuple[SplitLeaks, ...] | None = None
    task: str = "detection"

    def rows(self) -> dict[str, str]:
        """Return the rows as they are stored: name and text."""
        return {
            "config": self.config,
            "config_sha256": self.config_sha256,
            "data": self.data,
            "classes": json.dumps(self.classes),
            "category_ids": json.dumps(self.category_ids),
            "pool_class_boxes": json.dumps(self.pool_class_boxes),
            "pool_class_images": json.dumps(self.pool_class_images),
            "replay": str(self.replicate),
            "strategy": self.strategy,
            "random_seed": str(self.random_seed),
            "seed_set_sha256": self.seed_set_sha256,
            "oracle": self.oracle,
            "asks_people": json.dumps(self.asks_people),
            "budget": str(self.budget or ""),
            "rounds_planned": str(self.rounds_planned or ""),
            "label_using": json.dumps(self.label_using),
            "reference_is_test": json.dumps(self.reference_is_test),
            "contents": json.dumps(None if self.contents is None else dict(self.contents)),
            "folder": json.dumps(self.folder),  # JSON also holds a name that is no text in UTF-8
            "warnings": json.dumps(self.warnings),
            "leaks": json.dumps(None if self.leaks is None else [asdict(leaks) for leaks in self.leaks]),
            **({"fcos_score": json.dumps(self.fcos_score)} if self.fcos_score else {}),
            **({"task": self.task} if self.task != "detection" else {}),
            **({"initial_weights": json.dumps(self.initial_weights)} if self.initial_weights else {}),
            **{name: _printable(value) for name, value in asdict(self.environment).items()},
        }

    @classmethod
    def from_rows(cls, rows: Mapping[str, str]) -> "RunFacts | None":
        """Read the rows of a run, also of older versions; None for a run that never began.

        Raises:
            ValueError: a row that does not hold what its name says.
            ConfigError: a budget that is no amount.
        """
        if "config" not in rows:
            return None
        oracle, rounds = rows.get("oracle", "simulated"), rows.get("rounds_planned")
        return cls(
            config=rows["config"],
            config_sha256=rows.get("config_sha256", ""),
            data=rows.get("data", ""),
            classes=_listed(rows, "classes"),
            category_ids=_listed(rows, "category_ids"),
            pool_class_boxes=_listed(rows, "pool_class_boxes"),
            pool_class_images=_listed(rows, "pool_class_images"),
            replicate=int(rows.get("replay", 0)),
            strategy=rows.get("strategy", "unknown"),
            random_seed=int(rows.get("random_seed", 0)),
            seed_set_sha256=rows.get("seed_set_sha256", ""),
            oracle=oracle,
            asks_people=json.loads(rows["asks_people"]) if "asks_people" in rows else _asks_people(oracle),
            budget=Amount.parse(rows["budget"], "fact budget") if rows.get("budget") else None,
            rounds_planned=int(rounds) if rounds else None,
            label_using=rows.get("label_using") == "true",
            reference_is_test=rows.get("reference_is_test") == "true",
            contents=json.loads(rows.get("contents", "null")),
            folder=json.loads(rows.get("folder", '""')),
            fcos_score=json.loads(rows.get("fcos_score", '""')),
            initial_weights=json.loads(rows.get("initial_weights", '""')),
            warnings=_listed(rows, "warnings") or (),
            leaks=_leaks(rows),
            task=rows.get("task", "detection"),
            environment=Environment(**{f.name: rows[f.name] for f in fields(Environment) if f.name in rows}),
        )


def _printable(text: str) -> str:
    """Return a text with backslashes where it holds bytes that are no text in UTF-8, as file names may."""
    return text.encode("utf-8", "backslashreplace").decode()


def _listed(rows: Mapping[str, str], name: str) -> tuple[Any, ...] | None:
    values = json.loads(rows.get(name, "null"))
    return None if values is None else tuple(values)


def _leaks(rows: Mapping[str, str]) -> tuple[SplitLeaks, ...] | None:
    listed = _listed(rows, "leaks")
    if listed is None:
        return None
    pairs = ("identical_pairs", "near_pairs")
    return tuple(SplitLeaks(**tree | {name: tuple(map(tuple, tree[name])) for name in pairs}) for tree in listed)


def _asks_people(oracle: str) -> bool:
    """Return what a run of an older version, which only had built-in oracles, did not record."""
    from alloop.config.tables import ORACLES  # noqa: PLC0415  the models of a config are slow to import

    asks: bool = load_class("oracle", oracle, ORACLES).asks_people
    return asks
