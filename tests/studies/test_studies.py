"""Studies: grids, settings, repetitions; other ways of counting cost; what was bought; the pictures of it."""

import base64
import io
import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from alloop.budget.charges import RoundCharges
from alloop.budget.prices import COST_MODELS, IMAGES, CostModel, PriceList, cost_model
from alloop.cli.app import app
from alloop.config.overrides import parsed_values
from alloop.config.reading import parse_config
from alloop.data.splits import load_splits
from alloop.errors import ConfigError
from alloop.ledger.audit import audit
from alloop.ledger.facts import RunFacts
from alloop.ledger.store import read_ledger
from alloop.progress import Progress, duration
from alloop.report.gallery import SIDE, galleries
from alloop.report.numbers import to_csv, to_json
from alloop.report.page import write_report
from alloop.report.text import class_blocks, sentence, to_table
from alloop.results.class_balance import ClassBalance, StrategyClasses, class_balance, class_divergence, class_entropy
from alloop.results.compare import compare_runs, compared, flips
from alloop.results.runs import find_runs
from alloop.studies.grid import Grid, run_study, served_by, settings_of
from alloop.tables import plain
from strategies import TABLE
from tests.support import small_tree
from tests.support.runs import run, write_run


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Two strategies, two seeds, the first repeated once, under two detectors."""
    out = tmp_path_factory.mktemp("study")
    lines = io.StringIO()
    failures = run_study(
        parse_config(small_tree()),
        out,
        TABLE,
        strategies=["entropy"],
        seeds=[0, 1],
        replicates=1,
        vary={"detector.name": ["fcos", "retinanet"]},
        progress=Progress(stream=lines),
        quiet=True,
    )
    assert failures == []
    return out, lines.getvalue()


# cost models


def test_stored_charges_are_priced_again_by_hand(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2, 0.3])
    with read_ledger(tmp_path / "r") as ledger:
        counts = [[c.boxes for c in ledger.charges() if c.round <= k] for k in range(3)]
    assert any(0 in boxes for boxes in counts), "an image without a box must be among them"
    paid = {
        "boxes": [sum(boxes) for boxes in counts],
        "images": [len(boxes) for boxes in counts],
        "draw": [35 * sum(boxes) for boxes in counts],
        "extreme_click": [7 * sum(boxes) for boxes in counts],
        "image=0.5,box=2,empty=3,unit=EUR": [0.5 * len(b) + 2 * sum(b) + 3 * b.count(0) for b in counts],
    }
    for text, expected in paid.items():
        (found,) = find_runs([tmp_path / "r"], cost_model(text))
        assert list(found.paid) == pytest.approx(expected), text
        assert found.curve("ap")[0].tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bxes", "did you mean 'boxes'"),
        ("images=1", "did you mean 'image'"),
        ("box=much", "expected a number"),
        ("box=-1", "0 or more"),
        ("box=nan", "0 or more"),
        ("box=0", "one of them above 0"),
        ("unit=EUR", "one of them above 0"),
    ],
)
def test_prices_that_mean_nothing_are_refused(text, words):
    with pytest.raises(ConfigError, match=words):
        cost_model(text)


def test_seconds_need_to_have_been_recorded(tmp_path):
    write_run(tmp_path / "r", "random", 0, [0.1, 0.2])
    with pytest.raises(ConfigError, match="no recorded seconds"):
        compare_runs([tmp_path / "r"], cost=COST_MODELS["seconds"])
    assert CostModel("s", prices=PriceList(second=2.0, box=0.0)).cost(RoundCharges(0, 3, 4, 1, 10.0)) == 20.0


def priced(strategy, images, boxes, ap, seed):
    """A run whose rounds bought so many images and boxes."""
    charged = tuple(RoundCharges(k, i, b, 0, 0.0) for k, (i, b) in enumerate(zip(images, boxes, strict=True)))
    return replace(run(strategy, np.cumsum(boxes).tolist(), ap, seed), charged=charged)


def test_a_verdict_that_depends_on_counting_is_shown():
    """Learning loss buys twice the boxes: it wins by images and loses by boxes."""
    runs = []
    for seed in range(4):
        noise = 0.001 * np.random.default_rng(seed).normal(size=2)
        runs += [priced("random", [10, 10, 10], [20, 20, 20], [0.2, 0.3, 0.4], seed)]
        runs += [priced("rich", [10, 10, 10], [20, 60, 60], [0.2, *(np.array([0.36, 0.46]) + noise)], seed)]
    by_boxes, by_images = compared(runs, "ap"), compared(runs, "ap", cost=IMAGES)
    ((boxes, images),) = flips(by_boxes, by_images)
    assert (boxes.verdict, images.verdict) == ("worse", "better")
    table = to_table(by_boxes)
    assert "Counted in images, rich would be" in table
    assert "at equal images" in sentence(images, IMAGES)
    assert "less cost" in sentence(replace(images, saving=0.2), COST_MODELS["draw"])
    assert to_csv(compared(runs, "ap", cost=COST_MODELS["draw"])).splitlines()[0].endswith(",cost")
    assert to_json(by_images)["cost"]["name"] == "images"


# repetitions


def repeated(strategy, seed, ap, replay):
    return replace(run(strategy, [100, 200], ap, seed), facts=RunFacts(config="{}", replicate=replay))


def test_a_difference_within_replay_noise_is_inconclusive():
    runs = [run("random", [100, 200], [0.30, 0.40], s) for s in range(4)]
    runs += [run("a", [100, 200], [0.31 + 0.0001 * s, 0.41], s) for s in range(4)]
    alone = compared(runs, "ap")
    assert alone.replicate_noise is None
    assert alone.versus[0].verdict == "better"
    quiet = compared([*runs, repeated("random", 0, [0.30, 0.40], 1)], "ap")
    assert quiet.replicate_noise == 0
    assert quiet.versus == alone.versus, "a repetition is no seed"
    loud = compared([*runs, repeated("random", 0, [0.28, 0.38], 1)], "ap")
    assert loud.replicate_noise == pytest.approx(0.02)
    assert loud.versus[0].verdict == "inconclusive"
    assert "up to 0.0200 AP" in to_table(loud)
    assert to_json(loud)["replay_noise"] == pytest.approx(0.02)
    assert len(to_json(loud)["runs"]) == 8


# grids


def test_settings_are_every_combination():
    config = parse_config(small_tree())
    found = dict(settings_of(config, {"training.lr": [0.1, 0.2], "detector.name": ["fcos", "retinanet"]}))
    assert list(found) == ["lr=0.1,name=fcos", "lr=0.1,name=retinanet", "lr=0.2,name=fcos", "lr=0.2,name=retinanet"]
    assert found["lr=0.2,name=retinanet"].training.lr == 0.2
    assert dict(settings_of(config, {})) == {"": config}
    with pytest.raises(ConfigError, match="did you mean 'lr'"):
        dict(settings_of(config, {"training.lrr": [1]}))
    assert parsed_values("training.lr=0.1,0.2") == ("training.lr", [0.1, 0.2])
    for wrong in ("training.lr", "=1", "training.lr=", "training.lr=1,,2"):
        with pytest.raises(ConfigError, match="expected key=value"):
            parsed_values(wrong)


def test_a_study_repeats_and_varies(study):
    out, told = study
    for setting in ("name=fcos", "name=retinanet"):
        comparison = compare_runs([out / setting])
        assert len(comparison.runs) == 4
        assert [r.name for r in comparison.replicates] == ["random_seed0_replay1", "entropy_seed0_replay1"]
        assert comparison.replicate_noise == 0, "the same config, seed and threads give the same bytes on a CPU"
    assert len(list((out / "shared").glob("*.json"))) > 0
    assert len(list((out / "shared" / "replay1").glob("*.json"))) > 0, "a repetition trains its own models"
    with pytest.raises(ConfigError, match="give one: name=fcos, name=retinanet"):
        compare_runs([out])
    assert re.search(r"run 2 of 12: name=fcos/entropy_seed0 \(3 of 36 rounds done, about .+ left\)", told)


def test_arms_are_named_and_repeated_at_the_first_seed():
    arms = Grid(strategies=["entropy"], seeds=[3, 4], replicates=2).arms(parse_config(small_tree()), threads=1)
    assert [(a.name, a.replicate) for a in arms if a.replicate] == [
        (f"{name}_seed3_replay{k}", k) for k in (1, 2) for name in ("random", "entropy")
    ]


def test_all_is_what_the_detector_serves():
    fcos, without = served_by(parse_config(small_tree()), TABLE)
    assert {"random", "entropy", "influence", "csod"} <= set(fcos)
    assert without["localization_tightness"] == ["proposals"]
    assert "masks" in without["mask_entropy"]
    assert fcos == [name for name in TABLE if name not in without]
    tree = small_tree()
    tree["detector"]["name"] = "mask_rcnn"
    assert served_by(parse_config(tree), TABLE) == (list(TABLE), {})


def test_times_read_as_people_say_them():
    assert [duration(s) for s in (40, 89, 600, 12000)] == ["40 s", "89 s", "10 min", "3 h 20 min"]


def test_workers_end_with_a_killed_study(tmp_path):
    """Only the parent is killed; its workers notice and leave ledgers that are whole."""
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(small_tree(**{"training.iterations": 400})))
    command = [sys.executable, "-m", "alloop", "study", str(config), "--strategies", "random", "--seeds", "0,1"]
    command += ["--workers", "2", "--out", str(tmp_path / "out"), "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not workers_of(process.pid):
            time.sleep(0.2)
        workers = workers_of(process.pid)
        assert workers
        time.sleep(3)  # into their work
        process.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(Path(f"/proc/{pid}").exists() for pid in workers):
        time.sleep(0.2)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    for path in (tmp_path / "out").glob("*/run.db"):
        with read_ledger(path.parent) as ledger:
            assert audit(ledger) == []


def workers_of(parent):
    """Process ids of the children of a process."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and "spawn_main" in (path.parent / "cmdline").read_text():
            found.append(int(path.parent.name))
    return found


# what was bought


def test_classes_are_recounted_from_what_was_paid(study):
    comparison = compare_runs([study[0] / "name=fcos"])
    balance = class_balance(comparison)
    assert len(balance.names) == 10
    for one in balance.strategies:
        runs = [r for r in comparison.runs if r.strategy == one.strategy]
        expected = np.zeros((3, 10))
        for r in runs:
            with read_ledger(r.folder) as ledger:
                truths, charges = ledger.labeled(), ledger.charges()
            for charge in charges:
                expected[charge.round :] += np.bincount(truths[charge.image_id].labels, minlength=10) / len(runs)
        assert one.bought == pytest.approx(expected)
        assert one.bought[-1].sum() == pytest.approx(np.mean([r.rounds[-1].boxes for r in runs]))
        assert one.entropy()[-1] == pytest.approx(class_entropy(expected[-1]))
        assert one.divergence(balance.pool)[-1] == pytest.approx(class_divergence(expected[-1], balance.pool))
    pool = load_splits(parse_config(small_tree()).data).train.dataset
    assert balance.pool.sum() == pool.boxes
    assert balance.names == pool.class_names
    assert "KL from the pool" in plain(*class_blocks(balance))


def test_rare_classes_and_ap_at_equal_cost_by_hand(tmp_path):
    aps = {"random": [0.2, 0.4], "entropy": [0.2, 0.6]}
    for name, values in aps.items():
        write_run(tmp_path / name, name, 0, values, classes=["cat", "dog", "bird"], pool=[10, 5, 0])
    balance = class_balance(compare_runs([tmp_path]))
    assert balance.rare == ["dog"], "a third of two classes, one at least; the class without a box is not rare"
    assert balance.paid == min(r.rounds[-1].boxes for r in find_runs([tmp_path]))
    random, entropy = balance.strategies
    assert random.ap == pytest.approx({"cat": 0.4, "dog": None, "bird": None})
    assert entropy.ap_of(["cat", "dog"]) == pytest.approx(0.6)
    assert entropy.ap_of(balance.rare) is None
    write_run(tmp_path / "old" / "r", "random", 0, [0.1])
    assert class_balance(compare_runs([tmp_path / "old"])) is None
    assert class_blocks(None) == ["These runs did not record their classes."]


# the page


def test_the_gallery_shows_what_was_bought(study):
    runs = find_runs([study[0] / "name=fcos"])
    found, reason = galleries(runs)
    assert reason == ""
    assert [(g.strategy, g.run) for g in found] == [("random", "random_seed0"), ("entropy", "entropy_seed0")]
    with read_ledger(runs[0].folder) as ledger:
        selections, labeled = ledger.selections(), ledger.labeled()
    first = [image_id for round_, _, image_id, _, _ in selections if round_ == 0]
    last = [image_id for round_, _, image_id, _, _ in selections if round_ == 1]
    assert [int(p.caption.split(":")[0]) for p in found[0].first] == first[:6]
    assert [int(p.caption.split(":")[0]) for p in found[0].last] == last[-6:]
    for picture, image_id in zip(found[0].first, first, strict=False):
        pixels = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
        assert max(pixels.size) == SIDE
        assert f"with {len(labeled[image_id])} box" in picture.text
        yellow = np.asarray(pixels).astype(int)
        marked = ((yellow[..., 0] > 190) & (yellow[..., 1] > 150) & (yellow[..., 2] < 110)).sum()
        assert (marked > 40) == (len(labeled[image_id]) > 0)


def test_the_page_holds_everything_and_says_what_it_lacks(study, tmp_path):
    files = write_report(compare_runs([study[0] / "name=fcos"]), tmp_path / "r.html", "a study")
    page, numbers = files[0].read_text(), json.loads(files[2].read_text())
    for part in ("Who beats whom", "Boxes per image bought", "Boxes bought by class", "Replicate noise", "Run card"):
        assert part in page
    assert page.count("data:image/jpeg") == 2 * (4 + 4)
    assert page.count('alt="image ') == 2 * (4 + 4)
    shown = f"{numbers['comparisons'][0]['difference']:+.3f}"
    assert f"<td>{shown}</td>" in page
    assert numbers["classes"]["strategies"][0]["strategy"] == "random"
    assert {c["strategy"] for c in numbers["counted_otherwise"]} == {"entropy"}
    write_run(tmp_path / "lost" / "random_seed0", "random", 0, [0.1, 0.2])
    lost = write_report(compare_runs([tmp_path / "lost"]), tmp_path / "l.html", "lost")[0].read_text()
    assert "The images could not be read" in lost


def test_the_commands_know_costs_classes_and_settings(study, tmp_path):
    folder = str(study[0] / "name=fcos")
    told = CliRunner().invoke(app, ["compare", folder, "--cost", "draw", "--classes", "--at", "500"])
    assert told.exit_code == 0
    assert "at equal cost (draw, seconds)" in told.output
    assert "KL from the pool" in told.output
    tree = json.loads(CliRunner().invoke(app, ["compare", folder, "--format", "json", "--classes"]).output)
    assert tree["classes"]["names"] == [str(k) for k in range(10)]
    assert tree["runs"][0]["paid"] == [r["boxes"] for r in tree["runs"][0]["rounds"]]
    wrong = CliRunner().invoke(app, ["compare", folder, "--cost", "bxes"])
    assert wrong.exit_code == 2
    out = CliRunner().invoke(app, ["report", folder, "--out", str(tmp_path / "r.html"), "--cost", "images"])
    assert out.exit_code == 0
    assert "images paid" in (tmp_path / "r.html").read_text()


def test_studies_begin_from_the_command_line(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(yaml.safe_dump(small_tree(**{"loop.rounds": 2, "training.iterations": 1})))
    command = ["study", str(config), "--strategies", "random", "--seeds", "0", "--replicates", "1", "--quiet"]
    command += ["--vary", "training.lr=0.001,0.002", "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, command)
    assert told.exit_code == 0, told.output
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"lr=0.001", "lr=0.002", "shared"}
    assert "lr=0.001" in told.output
    assert (tmp_path / "out" / "lr=0.002" / "report.html").is_file()
    assert CliRunner().invoke(app, [*command[:-4], "--vary", "training.lrr=1"]).exit_code == 2


def test_groups_of_classes_by_hand():
    names, images = tuple("abcdef"), np.array([1.0, 10, 11, 100, 101, 0])
    bought = StrategyClasses("random", np.ones((1, 6)), dict.fromkeys(names, 0.5))
    balance = ClassBalance(names, np.array([1.0, 20, 30, 400, 500, 0]), (bought,), 1.0, images)
    assert balance.groups == {
        "majority": ["c", "d", "e"],
        "minority (*)": ["a", "b"],
        "rare (1 to 10 images)": ["a", "b"],
        "common (to 100)": ["c", "d"],
        "frequent": ["e"],
    }
