"""Pictures of the images that were bought."""

import base64
import io

import numpy as np
from PIL import Image

from alloop.config import parse_config
from alloop.data.digit_files import export_digit_scenes
from alloop.ledger.split_images import pool_images
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.report.gallery import SIDE, galleries
from alloop.results.runs import find_runs
from strategies import TABLE
from tests.support import small_tree


def test_the_gallery_shows_what_was_bought(study):
    runs = find_runs([study[0] / "name=fcos"])
    shown, reason = galleries(runs)
    assert reason == ""
    assert [(g.strategy, g.run) for g in shown] == [("random", "random_seed0"), ("entropy", "entropy_seed0")]
    with read_ledger(runs[0].folder) as ledger:
        selections, labeled = ledger.selections(), ledger.labeled()
    first = [image_id for round_, _, image_id, _, _ in selections if round_ == 0]
    last = [image_id for round_, _, image_id, _, _ in selections if round_ == 1]
    assert [int(p.caption.split(":")[0]) for p in shown[0].first] == first[:6]
    assert [int(p.caption.split(":")[0]) for p in shown[0].last] == last[-6:]
    for picture, image_id in zip(shown[0].first, first, strict=False):
        pixels = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
        assert max(pixels.size) == SIDE
        assert f"with {len(labeled[image_id])} box" in picture.text
        yellow = np.asarray(pixels).astype(int)
        marked = ((yellow[..., 0] > 190) & (yellow[..., 1] > 150) & (yellow[..., 2] < 110)).sum()
        assert (marked > 40) == (len(labeled[image_id]) > 0)


def test_the_pictures_need_no_annotations_and_show_the_recorded_files(tmp_path):
    export_digit_scenes(tmp_path, ["pool=14", "reference=2", "test=4"])
    tree = small_tree(**{"loop.rounds": 2, "loop.seed_set": "4 images", "loop.query_size": "3 images"})
    split = {name: {"annotations": f"{tmp_path}/instances_{name}.json"} for name in ("pool", "test")}
    tree["data"] = {name: own | {"images": f"{tmp_path}/images"} for name, own in split.items()}
    tree["data"]["train"] = tree["data"].pop("pool")
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    runs = find_runs([tmp_path / "run"])
    before, _ = galleries(runs)
    assert len(before[0].first) == 3
    for name in ("pool", "test"):
        (tmp_path / f"instances_{name}.json").unlink()
    assert galleries(runs) == (before, "")
    with read_ledger(tmp_path / "run") as ledger:
        shown = ledger.selections()[0][2]
        (file_name,) = [name for _, name, _ in pool_images(ledger, [shown]).values()]
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / file_name)
    shown_now, reason = galleries(runs)
    assert shown_now == []
    assert "could not be read" in reason
    assert file_name in reason
