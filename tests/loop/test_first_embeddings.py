"""Embeddings from a file pick the seed set: they take the place of the detector's, row by row, and are compared."""

import json
import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from alloop.config import load_config, parse_config
from alloop.data.splits import load_splits
from alloop.detectors.torchvision.catalogue import FCOS
from alloop.errors import ConfigError, DamagedFileError, DataError
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.loop.recorded_data import sha256_of_path
from alloop.query import Need
from alloop.results.runs import read_run, refuse_unlike
from strategies import TABLE
from tests.support import small_tree
from tests.support.projects import write_project

POOL = 24


@dataclass(frozen=True, kw_only=True)
class Blind(FCOS):
    """An FCOS that gives no embeddings."""

    gives: ClassVar[frozenset[Need]] = FCOS.gives - {Need.EMBEDDINGS}


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(POOL, 5))


def saved(folder, vectors, name="e.npy"):
    np.save(folder / name, vectors)
    return str(folder / name)


def run(folder, *, changes=None, **loop):
    tree = small_tree(**{"strategy": {"name": "random"}} | (changes or {}))
    tree["loop"] |= {"rounds": 1, "seed_set": 6, "first_batch": "k_center"} | loop
    run_experiment(parse_config(tree), folder, TABLE)
    return seed_set(folder)


def seed_set(folder):
    with read_ledger(folder) as ledger:
        return {int(c.image_id) for c in ledger.charges() if c.round == 0}


def test_the_seed_set_is_that_of_the_strategy_on_the_rows_of_the_file(tmp_path, vectors):
    """Rows near each other stand for one image: six clusters give one image each."""
    centres = 100 * np.eye(6)[np.arange(POOL) % 6]
    chosen = run(tmp_path / "run", embeddings=saved(tmp_path, centres + 0.01 * vectors[:, :1]))
    with read_ledger(tmp_path / "run") as ledger:
        ids = sorted(ledger.image_hashes())
    assert sorted(ids.index(image_id) % 6 for image_id in chosen) == [0, 1, 2, 3, 4, 5]
    assert chosen != run(tmp_path / "own")


def test_rows_belong_to_the_images_that_the_list_names_in_whatever_order(tmp_path, vectors):
    expected = run(tmp_path / "plain", embeddings=saved(tmp_path, vectors))
    with read_ledger(tmp_path / "plain") as ledger:
        ids = [str(image_id) for image_id in ledger.image_hashes()]
    order = np.random.default_rng(1).permutation(POOL)
    (tmp_path / "ids.txt").write_text("\n".join(ids[row] for row in order))
    mixed = saved(tmp_path, vectors[order], "mixed.npy")
    assert run(tmp_path / "listed", embeddings=mixed, embedding_ids=str(tmp_path / "ids.txt")) == expected
    assert run(tmp_path / "unlisted", embeddings=mixed) != expected


def test_without_a_list_the_rows_are_in_the_order_of_the_coco_file_and_names_serve_as_ids(tmp_path):
    config = write_project(tmp_path, strategy={"name": "random"})
    path = tmp_path / "data" / "instances_pool.json"
    tree = json.loads(path.read_text())
    tree["images"] = tree["images"][::-1]
    path.write_text(json.dumps(tree))
    np.save(tmp_path / "e.npy", np.arange(12.0)[:, None] ** 3)
    lists = {"ids": [str(i["id"]) for i in tree["images"]], "names": [i["file_name"] for i in tree["images"]]}
    found = {}
    for kind in ("order", *lists):
        overrides = ["loop.first_batch=k_center", f"loop.embeddings={tmp_path / 'e.npy'}", "loop.rounds=1"]
        if kind in lists:
            (tmp_path / f"{kind}.txt").write_text("\n".join(lists[kind]))
            overrides.append(f"loop.embedding_ids={tmp_path / kind}.txt")
        run_experiment(load_config(config, overrides), tmp_path / kind, TABLE)
        found[kind] = seed_set(tmp_path / kind)
    assert found["order"] == found["ids"] == found["names"]
    last, first = tree["images"][-1]["id"], tree["images"][0]["id"]
    assert {last, first} & found["order"], "the rows that lie farthest apart are the first and the last"


def test_a_detector_without_embeddings_needs_the_file_and_then_takes_part(tmp_path, vectors):
    detector = small_tree()["detector"] | {"name": f"{__name__}:Blind"}
    own = {key: value for key, value in detector.items() if key in {"name", *FCOS.__dataclass_fields__}}
    with pytest.raises(ConfigError, match=r"loop\.first_batch: 'k_center' needs embeddings, and detector .*gives none"):
        run(tmp_path / "none", changes={"detector": own})
    file = saved(tmp_path, vectors)
    assert run(tmp_path / "file", changes={"detector": own}, embeddings=file) == run(tmp_path / "b", embeddings=file)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v[:-1], r"loop\.embeddings: .*e\.npy: expected a row for each of the 24 images .*found 23"),
        (lambda v: np.vstack([v, v[:1]]), r"found 25; name the image of each row with loop\.embedding_ids"),
        (lambda v: np.where(v == v[3, 2], np.nan, v), r"loop\.embeddings: .*e\.npy: row 3 holds .* not finite"),
        (lambda v: np.where(v == v[0, 0], np.inf, v), r"row 0 holds a number that is not finite"),
        (lambda v: v[:, 0], r"expected one matrix"),
    ],
)
def test_rows_that_are_missing_too_many_or_not_finite_are_refused(tmp_path, vectors, change, words):
    with pytest.raises(DataError, match=words):
        run(tmp_path / "run", embeddings=saved(tmp_path, change(vectors)))
    with read_ledger(tmp_path / "run") as ledger:
        assert ledger.facts() is None


@pytest.mark.parametrize(
    ("ids", "rows", "words"),
    [
        (
            range(POOL - 1),
            POOL - 1,
            r"loop\.embeddings: .*e\.npy: 1 images of the pool have no row, the first is",
        ),
        (
            [*range(POOL), 999],
            POOL + 1,
            r"loop\.embedding_ids: .*ids\.txt: '999' is no image .* \(1 such lines\)",
        ),
        (range(POOL), POOL - 1, r"loop\.embedding_ids: .*ids\.txt: names 24 images, .*e\.npy has 23 rows"),
        ([*range(POOL - 1), 0], POOL, r"loop\.embedding_ids: .*ids\.txt: image \d+ stands twice"),
    ],
)
def test_a_list_names_every_image_of_the_pool_once(tmp_path, vectors, ids, rows, words):
    pool = [str(image_id) for image_id in load_splits(parse_config(small_tree()).data).train.dataset.images]
    (tmp_path / "ids.txt").write_text("\n".join(pool[row] if row < POOL else str(row) for row in ids))
    file = saved(tmp_path, np.resize(vectors, (rows, 5)))
    with pytest.raises(DataError, match=words):
        run(tmp_path / "run", embeddings=file, embedding_ids=str(tmp_path / "ids.txt"))


def test_a_file_that_nothing_uses_is_refused(tmp_path, vectors):
    file = saved(tmp_path, vectors)
    with pytest.raises(ConfigError, match=r"loop\.embeddings: the seed set is random and does not use them"):
        run(tmp_path / "run", embeddings=file, first_batch="random")
    with pytest.raises(ConfigError, match=r"loop: embedding_ids: it names the images of the rows of embeddings"):
        run(tmp_path / "run", embedding_ids=file)


def test_images_of_a_format_without_an_order_need_a_list(tmp_path, monkeypatch):
    config = write_project(tmp_path, strategy={"name": "random"})
    np.save(tmp_path / "e.npy", np.zeros((12, 2)))
    config = load_config(config, ["loop.first_batch=k_center", f"loop.embeddings={tmp_path / 'e.npy'}"])
    splits, train = load_splits(config.data), config.data.train.model_copy(update={"format": "voc"})
    monkeypatch.setattr("alloop.tasks.detection.load_splits", lambda *_, **__: splits)
    other = config.model_copy(update={"data": config.data.model_copy(update={"train": train})})
    with pytest.raises(ConfigError, match=r"in the format voc have no order; .*loop\.embedding_ids"):
        run_experiment(other, tmp_path / "run", TABLE)


def test_the_content_of_the_file_belongs_to_the_run_and_its_path_does_not(tmp_path, vectors):
    file, out = saved(tmp_path, vectors), tmp_path / "run"
    run(out, embeddings=file)
    with read_ledger(out) as ledger:
        assert ledger.facts().contents == {"loop.embeddings": sha256_of_path(tmp_path / "e.npy")}
    moved = saved(tmp_path, vectors, "moved.npy")
    run(out, embeddings=moved)
    other = saved(tmp_path, vectors + 1, "other.npy")
    with pytest.raises(DamagedFileError, match=r"loop\.embeddings: .*other\.npy differs from what this run began with"):
        run(out, embeddings=other)
    with pytest.raises(ConfigError, match=r"this run began with loop\.embeddings = "):
        run(out)
    run(tmp_path / "b", embeddings=moved)
    run(tmp_path / "c", embeddings=other)
    a, b, c = (read_run(folder) for folder in (out, tmp_path / "b", tmp_path / "c"))
    refuse_unlike([a, b])
    with pytest.raises(ConfigError, match=re.escape("loop.embeddings differs")):
        refuse_unlike([a, c])
