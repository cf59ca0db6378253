"""The loop: deterministic, resumable at any instant, blind to hidden labels, exact in what it buys."""

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import yaml

from alloop.config import parse_config
from alloop.errors import AlloopError, ConfigError, DamagedFileError, RunInUseError
from alloop.files import run_lock
from alloop.ledger.audit import audit
from alloop.ledger.store import open_ledger, read_ledger
from alloop.loop.engine import query_and_reveal, run_experiment
from alloop.loop.experiment import environment, prepare, training_key
from alloop.query import Query
from alloop.results.status import status_blocks
from alloop.studies.grid import run_study
from alloop.tables import plain
from alloop.values import Annotations
from strategies import TABLE
from tests.support import small_tree
from tests.support.frozen import random_weights


def record(folder):
    """Everything of a run that must not depend on how often it was stopped."""
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        rounds = [(r.round, r.images, r.boxes, dict(r.metrics), dict(r.per_class)) for r in ledger.rounds()]
        models = [(path, sha256) for path, sha256, step in ledger.files() if step is None]
        return ledger.charges(), ledger.selections(), rounds, models


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A finished run and its record."""
    folder = tmp_path_factory.mktemp("straight")
    run_experiment(parse_config(small_tree()), folder, TABLE)
    return folder


def test_the_same_config_gives_the_same_bytes(straight, tmp_path):
    run_experiment(parse_config(small_tree()), tmp_path, TABLE)
    assert record(tmp_path) == record(straight)


def test_rounds_pay_for_what_they_train_on(straight):
    charges, selections, rounds, _ = record(straight)
    assert [r[1] for r in rounds] == [6, 10, 14]
    assert [r[2] for r in rounds] == [sum(c.boxes for c in charges if c.round <= k) for k in range(3)]
    assert {s[2] for s in selections} == {c.image_id for c in charges if c.round > 0}
    truth = prepare(parse_config(small_tree()), TABLE).splits.train.dataset.annotations
    assert all(c.boxes == len(truth[c.image_id]) for c in charges)
    assert all(s[4] >= 0 for s in selections)


def test_a_finished_run_does_nothing(straight):
    before = {p: p.stat().st_mtime_ns for p in straight.rglob("*") if p.is_file() and p.name != "run.lock"}
    assert len(run_experiment(parse_config(small_tree()), straight, TABLE)) == 3
    assert before == {p: p.stat().st_mtime_ns for p in straight.rglob("*") if p.is_file() and p.name != "run.lock"}


def test_strategies_share_the_seed_set_and_the_first_model(straight, tmp_path):
    run_experiment(parse_config(small_tree(strategy={"name": "random"})), tmp_path, TABLE)
    ours, theirs = record(straight), record(tmp_path)
    assert [c for c in ours[0] if c.round == 0] == [c for c in theirs[0] if c.round == 0]
    assert ours[3][0] == theirs[3][0]
    assert ours[2][0] == theirs[2][0]


class StoppedError(Exception):
    """Stands for a kill."""


def stop_after(monkeypatch, calls):
    """Raise at the n-th durable action of the ledger, before it or after it."""
    from alloop.ledger import store as ledger

    count = {"left": calls}

    def counted(original):
        def wrapped(*args, **kwargs):
            count["left"] -= 1
            if count["left"] == 0:
                raise StoppedError
            result = original(*args, **kwargs)
            count["left"] -= 1
            if count["left"] == 0:
                raise StoppedError
            return result

        return wrapped

    for name in ("begin", "close_round", "store", "drop"):
        monkeypatch.setattr(ledger.Ledger, name, counted(getattr(ledger.Ledger, name)))
    monkeypatch.setattr(ledger, "atomic_write", counted(ledger.atomic_write))


PARTS = 4  # of the test below, for as many processes


@pytest.mark.parametrize("part", range(PARTS))
def test_stopped_before_or_after_any_durable_action_it_ends_the_same(straight, tmp_path, part):
    """SQLite's method: raise the point of failure until the run completes; each part takes every fourth point."""
    expected, stops = record(straight), 0
    config = parse_config(small_tree(**{"training.checkpoint_seconds": 0}))
    for calls in range(1 + part, 200, PARTS):
        folder = tmp_path / str(calls)
        with pytest.MonkeyPatch.context() as patch:
            stop_after(patch, calls)
            try:
                run_experiment(config, folder, TABLE)
                break
            except StoppedError:
                stops += 1
        run_experiment(config, folder, TABLE)
        assert record(folder) == expected
        shutil.rmtree(folder)
    assert stops > 40 // PARTS


TEACHER = {"unlabeled_ratio": 1, "threshold": 0.06, "gradient_balance": True, "resampling": True}


@pytest.mark.parametrize(
    "changes",
    [
        {"evaluation.keep_detections": True},
        {"detector.name": "faster_rcnn", "loop.rounds": 2, "training.semi_supervised": TEACHER},
        {"detector.backbone": "mobilenet_v3_small", "detector.weights": "random", "loop.rounds": 2},
    ],
    ids=["supervised", "taught", "frozen"],
)
def test_sigkill_at_random_moments(tmp_path, changes):
    """A real process, really killed, until it is done; the record equals a run that was never stopped."""
    if changes.get("detector.weights") == "random":
        changes = {**changes, "detector.weights": random_weights("mobilenet_v3_small", tmp_path)}
    tree = small_tree(**{"training.iterations": 12, "training.checkpoint_seconds": 0, "loop.rounds": 4, **changes})
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tree))
    command = [sys.executable, "-m", "alloop", "run", str(path), "--quiet", "--out"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    subprocess.run([*command, str(tmp_path / "straight")], check=True, env=env, stdout=subprocess.DEVNULL)
    whole, chance, kills = time.monotonic() - started, random.Random(0), 0
    while True:
        with subprocess.Popen([*command, str(tmp_path / "killed")], env=env, stdout=subprocess.DEVNULL) as process:
            try:
                # import takes the first seconds; kills fall into the work after it; at last it may end, however slow
                process.wait(chance.uniform(2.0, max(2.5, whole * 0.6)) if kills < 20 else None)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                kills += 1
                process.wait()
                continue
        assert process.returncode == 0
        break
    assert kills > 0
    assert record(tmp_path / "killed") == record(tmp_path / "straight")


def test_a_full_disk_is_one_paragraph_and_the_run_goes_on_afterwards(straight, tmp_path):
    """A limit on the size of files stands for the disk: the models do not fit, then they do."""
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(small_tree()))
    command = f"{sys.executable} -m alloop run {tmp_path / 'c.yaml'} --quiet --out {tmp_path / 'run'}"
    full = subprocess.run(["bash", "-c", f"ulimit -f 400; {command}"], capture_output=True, text=True, check=False)
    assert full.returncode == 1
    assert "File too large" in full.stderr
    assert "Traceback" not in full.stderr
    assert subprocess.run(["bash", "-c", command], capture_output=True, check=False).returncode == 0
    assert record(tmp_path / "run") == record(straight)


def test_a_second_process_is_refused(straight):
    with run_lock(straight), pytest.raises(RunInUseError):
        run_experiment(parse_config(small_tree()), straight, TABLE)


def test_another_config_is_refused_and_names_the_key(straight):
    with pytest.raises(ConfigError, match=r"training\.lr = 0\.002.*0\.003"):
        run_experiment(parse_config(small_tree(**{"training.lr": 0.003})), straight, TABLE)


def test_a_damaged_model_stops_the_run_and_names_the_file(straight, tmp_path):
    shutil.copytree(straight, tmp_path / "run")
    with open_ledger(tmp_path / "run") as ledger:
        ledger.database.write("UPDATE round SET metrics = NULL WHERE round = 2")
    model = tmp_path / "run" / "models" / "round_002.safetensors"
    data = bytearray(model.read_bytes())
    data[len(data) // 2] ^= 1
    model.write_bytes(bytes(data))
    with pytest.raises(DamagedFileError, match=r"round_002\.safetensors"):
        run_experiment(parse_config(small_tree()), tmp_path / "run", TABLE)


def reachable_annotations(start):
    """Every Annotations object that can be reached from `start` by following references, modules and classes aside."""
    seen, stack, found = set(), [start], []
    while stack:
        thing = stack.pop()
        if id(thing) in seen or isinstance(thing, type | type(sys)):
            continue
        seen.add(id(thing))
        if isinstance(thing, Annotations):
            found.append(thing)
            continue
        if isinstance(thing, Mapping) and not isinstance(thing, dict | MappingProxyType):
            stack += thing.values()  # what makes annotations only when asked holds them all the same
        follow = gc.get_referents(thing)
        if callable(thing) and hasattr(thing, "__globals__"):
            follow = [r for r in follow if r is not thing.__globals__]
        stack += follow
    return found


def test_hidden_labels_cannot_be_reached_from_a_query(tmp_path, monkeypatch):
    queries = []

    def spy(strategy, query):
        queries.append(query)
        return strategy.select(query)

    monkeypatch.setattr("alloop.loop.querying.checked_selection", spy)
    config = parse_config(small_tree(**{"loop.rounds": 2}))
    run_experiment(config, tmp_path, TABLE)
    experiment = prepare(config, TABLE)
    truth = experiment.splits.train.dataset.annotations
    (query,) = queries
    assert isinstance(query, Query)
    hidden = {truth[i].boxes.tobytes() for i in query.unlabeled if len(truth[i])}
    known = {truth[i].boxes.tobytes() for i in query.labeled} | {
        a.boxes.tobytes() for a in experiment.splits.reference.dataset.annotations.values()
    }
    reached = {a.boxes.tobytes() for a in reachable_annotations(query)}
    assert reached & known
    assert not reached & (hidden - known)
    leaking = Query(0, query.unlabeled, truth, query.detector, 1, 0)
    assert {a.boxes.tobytes() for a in reachable_annotations(leaking)} & hidden  # the search does find leaks


def bought(tmp_path, **changes):
    run_experiment(parse_config(small_tree(**changes)), tmp_path, TABLE)
    return record(tmp_path)


def test_a_query_in_boxes_overshoots_by_the_last_image_at_most(tmp_path):
    charges, _, rounds, _ = bought(tmp_path, **{"loop.query_size": "7 boxes", "loop.seed_set": "10 boxes"})
    by_round = [[c.boxes for c in charges if c.round == k] for k in range(len(rounds))]
    for boxes, quota in zip(by_round, [10, 7, 7], strict=True):
        assert sum(boxes) >= quota
        assert sum(boxes) - max(boxes) < quota


@pytest.mark.parametrize("budget", ["12 images", "20 boxes"])
def test_the_budget_is_never_passed_and_ends_the_run(tmp_path, budget):
    charges, _, rounds, _ = bought(tmp_path, **{"loop.budget": budget, "loop.rounds": 9})
    spent = len(charges) if "images" in budget else sum(c.boxes for c in charges)
    assert spent <= int(budget.split()[0])
    assert len(rounds) < 9


def test_the_pool_can_be_bought_empty(tmp_path):
    charges, _, rounds, _ = bought(tmp_path, **{"loop.query_size": 20, "loop.rounds": 9})
    assert len(charges) == 24
    assert [r[1] for r in rounds] == [6, 24]


@pytest.mark.parametrize("name", ["faster_rcnn", "retinanet", "mask_rcnn"])
@pytest.mark.parametrize("strategy", ["k_center", "margin"])
def test_every_detector_runs_the_loop(tmp_path, name, strategy):
    changes = {"detector.name": name, "strategy": {"name": strategy}, "loop.rounds": 2}
    _, selections, rounds, _ = bought(tmp_path, **changes)
    assert len(rounds) == 2
    assert len(selections) == 4
    assert ("mask_ap" in rounds[0][3]) == (name == "mask_rcnn")


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"loop.seed_set": 25}, ConfigError, "more than the 24 images"),
        ({"loop.budget": "3 images"}, ConfigError, "does not even pay"),
        ({"loop.budget": "1 boxes", "data.digit_scenes.empty": 0.0, "random_seed": 3}, ConfigError, "first image"),
        ({"detector.name": "fcso"}, ConfigError, "did you mean 'fcos'"),
        ({"training.device": "cuda"}, ConfigError, "not available"),
        ({"data": {"digit_scenes": {"poool": 3}}}, ConfigError, "did you mean 'pool'"),
    ],
)
def test_impossible_experiments_are_refused_before_training(tmp_path, changes, error, words):
    with pytest.raises(error, match=words):
        run_experiment(parse_config(small_tree(**changes)), tmp_path, TABLE)
    with open_ledger(tmp_path) as ledger:
        assert ledger.facts() is None  # nothing was booked


def test_a_strategy_that_needs_what_the_detector_lacks_is_refused(tmp_path):
    (tmp_path / "needy.py").write_text(
        "from dataclasses import dataclass\nfrom typing import ClassVar\nfrom alloop.query import Need\n"
        "@dataclass(frozen=True)\nclass Needy:\n    needs: ClassVar = frozenset({Need.MASKS})\n"
        "    source: ClassVar = 'x'\n    def select(self, query):\n        raise NotADirectoryError\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        with pytest.raises(ConfigError, match="needs masks, which detector 'fcos' does not give"):
            prepare(parse_config(small_tree(strategy={"name": "needy:Needy"})), TABLE)
    finally:
        sys.path.remove(str(tmp_path))


def test_a_model_of_another_processor_is_another_model(monkeypatch):
    experiment = prepare(parse_config(small_tree()), TABLE)
    name, _, instructions = environment(experiment)["hardware"].rpartition(", ")
    assert name or sys.platform != "linux", "the same name for all processors tells none apart"
    assert instructions
    key = training_key(experiment, 0, {})
    assert training_key(experiment, 0, {}) == key
    monkeypatch.setattr("alloop.loop.experiment._processor", lambda: f"another, {instructions}")
    assert training_key(experiment, 0, {}) != key


def test_a_study_trains_round_0_once_and_survives_a_failing_arm(tmp_path, monkeypatch):
    trained = []
    from alloop.loop import fitting

    original = fitting._trained
    monkeypatch.setattr(fitting, "_trained", lambda *a, **k: trained.append(a[1]) or original(*a, **k))
    config = parse_config(small_tree(**{"loop.rounds": 2}))
    failures = run_study(config, tmp_path, TABLE, strategies=["entropy", "k_center"], seeds=[0], full_label=True)
    assert failures == []
    assert sorted(trained) == [0, 0, 1, 1, 1]  # round 0 once for three strategies, once for all labels
    names = sorted(p.parent.name for p in tmp_path.glob("*/run.db"))
    assert names == ["entropy_seed0", "full_label_seed0", "k_center_seed0", "random_seed0"]
    blocks = plain(*status_blocks(tmp_path)).splitlines()[1:]
    lines = [line for line in blocks if not line.startswith("warning")]
    assert len(lines) == 4
    assert all("finished" in line for line in lines)
    firsts = {record(tmp_path / n)[2][0][3]["ap"] for n in names[:1] + names[2:]}
    assert len(firsts) == 1
    shutil.rmtree(tmp_path / "k_center_seed0")

    def broken(*_):
        raise AlloopError("broken arm")

    monkeypatch.setattr("strategies.k_center.KCenter.select", broken)
    failures = run_study(config, tmp_path, TABLE, strategies=["entropy", "k_center"], seeds=[0])
    assert [(f.arm, f.reason) for f in failures] == [("k_center_seed0", "broken arm")]


def test_ask_again_costs_nothing(straight, tmp_path):
    """Law 3: the query of an open round may be asked any number of times."""
    shutil.copytree(straight, tmp_path / "run")
    experiment = prepare(parse_config(small_tree()), TABLE)
    from alloop.data.cache_folder import CacheFolder, RecentFolder
    from alloop.loop.context import RunContext, pixel_caches
    from alloop.oracles.simulated import SimulatedOracle
    from alloop.progress import Progress
    from alloop.training.weights import load_weights_of

    oracle = SimulatedOracle(experiment.splits.train.dataset.annotations)
    with open_ledger(tmp_path / "run") as ledger:
        before = ledger.spent()
        detector = experiment.new_detector(0)
        load_weights_of(detector.module, ledger.stored("models/round_000.safetensors"))
        folders = CacheFolder(tmp_path / "cache", 2**30), RecentFolder(tmp_path / "cache" / "scores", 2**30)
        caches = pixel_caches(experiment)
        context = RunContext(experiment, ledger, oracle, caches, *folders, None, Progress(quiet=True))
        answers = [query_and_reveal(context, oracle, 1, ledger.labeled(), detector) for _ in range(2)]
        assert answers[0].selection.image_ids == answers[1].selection.image_ids
        assert np.array_equal(answers[0].selection.utilities, answers[1].selection.utilities)
        assert ledger.spent() == before


def test_a_real_coco_data_set_runs_and_its_images_are_watched(tmp_path, real_data):
    source = real_data / "coco_mini_ccby"
    shutil.copytree(source, tmp_path / "data", copy_function=shutil.copyfile)
    for path in (tmp_path / "data").rglob("*"):
        path.chmod(0o755)
    annotations = str(Path(tmp_path / "data/annotations/instances_all.json"))
    split = {"annotations": annotations, "images": str(tmp_path / "data/images")}
    tree = small_tree(data={"train": split, "test": split})
    tree["loop"] = {"seed_set": 4, "query_size": "30 boxes", "rounds": 2}
    run_experiment(parse_config(tree), tmp_path / "run", TABLE)
    with read_ledger(tmp_path / "run") as ledger:
        assert ledger.facts().reference_is_test
        assert len(ledger.image_hashes()) == 53
        image_id = ledger.charges()[0].image_id
    tree["loop"]["rounds"] = 1
    run_experiment(parse_config(tree), tmp_path / "other", TABLE)
    with open_ledger(tmp_path / "other") as ledger:
        ledger.database.write("UPDATE image SET sha256 = 'changed' WHERE image_id = ?", image_id)
        ledger.database.write("UPDATE round SET metrics = NULL")
        ledger.database.write("DELETE FROM file")
    with pytest.raises(DamagedFileError, match=f"image {image_id} changed"):
        run_experiment(parse_config(tree), tmp_path / "other", TABLE)
