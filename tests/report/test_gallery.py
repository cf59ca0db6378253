"""Pictures of the images that were bought."""

from PIL import Image

from alloop.config import parse_config
from alloop.data.digit_files import export_digit_scenes
from alloop.ledger.split_images import pool_images
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from alloop.report.gallery import galleries
from alloop.results.runs import find_runs
from strategies import TABLE
from tests.support import small_tree


def test_the_gallery_shows_what_was_bought(study):
    runs = find_runs([study[0] / "name=fcos"])
    shown, reason = galleries(runs, TABLE)
    assert reason == ""
    assert [(g.strategy, g.run) for g in shown] == [("random", "random_seed0"), ("entropy", "entropy_seed0")]
    assert [g.why for g in shown] == [
        "Choose images at random.",
        "Choose the images whose detections, or whose class, are the most uncertain.",
    ]
    with read_ledger(runs[0].folder) as ledger:
        selections, labeled = ledger.selections(), ledger.labeled()
        names = {image_id: name for image_id, name, _ in pool_images(ledger, [one[2] for one in selections]).values()}
    first = [one for one in selections if one[0] == 0]
    last = [one for one in selections if one[0] == 1]
    for pictures, chosen, among in ((shown[0].first, first[:6], first), (shown[0].last, last[-6:], last)):
        assert [picture.name for picture in pictures] == [names[one[2]] for one in chosen]
        for picture, (round_, rank, image_id, utility, _) in zip(pictures, chosen, strict=True):
            assert picture.lines[0] == f"round {round_}, choice {rank + 1} of {len(among)}; utility {utility:.3g}"
            truth = labeled[image_id]
            assert [list(box.corners) for box in picture.boxes] == truth.boxes.tolist()
            assert [box.text for box in picture.boxes] == [str(label) for label in truth.labels]
            assert f"with {len(truth)} box" in picture.text


def test_a_strategy_that_is_not_built_in_gives_no_reason(study):
    shown, _ = galleries(find_runs([study[0] / "name=fcos"]), {})
    assert [gallery.why for gallery in shown] == ["", ""]


def test_the_pictures_need_no_annotations_and_show_the_recorded_files(tmp_path):
    export_digit_scenes(tmp_path, ["pool=14", "reference=2", "test=4"])
    tree = small_tree(**{"loop.rounds": 2, "loop.seed_set": "4 images", "loop.query_size": "3 images"})
    split = {name: {"annotations": f"{tmp_path}/instances_{name}.json"} for name in ("pool", "test")}
    tree["data"] = {name: own | {"images": f"{tmp_path}/images"} for name, own in split.items()}
    tree["data"]["train"] = tree["data"].pop("pool")
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    runs = find_runs([tmp_path / "run"])
    before, _ = galleries(runs, TABLE)
    assert len(before[0].first) == 3
    for name in ("pool", "test"):
        (tmp_path / f"instances_{name}.json").unlink()
    assert galleries(runs, TABLE) == (before, "")
    with read_ledger(tmp_path / "run") as ledger:
        shown = ledger.selections()[0][2]
        (file_name,) = [name for _, name, _ in pool_images(ledger, [shown]).values()]
    Image.new("RGB", (64, 64)).save(tmp_path / "images" / file_name)
    shown_now, reason = galleries(runs, TABLE)
    assert shown_now == []
    assert "could not be read" in reason
    assert file_name in reason
