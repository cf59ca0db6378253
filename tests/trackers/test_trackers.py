"""Each tracker shows every booked round once, over the boxes paid; the packages of others are played by fakes."""

import csv
import sys
import types
from dataclasses import replace
from pathlib import Path

import pytest

from alloop.config.plugin_blocks import TrackerBlock
from alloop.config.tables import TRACKERS
from alloop.errors import ConfigError
from alloop.trackers.csv_file import Csv
from alloop.trackers.mlflow import MLflow
from alloop.trackers.tensorboard import TensorBoard
from alloop.trackers.tracker import RoundFigures, TrackedRun, TrackerPlugin, require_packages
from alloop.trackers.wandb import WandB

ROUNDS = tuple(RoundFigures(k, 10 * (k + 1), 4 * (k + 1), {"ap": 0.25 * k, "ap75": None}) for k in range(3))


@pytest.fixture
def run(tmp_path):
    return TrackedRun(tmp_path / "entropy_seed0", "entropy", 0, {"random_seed": 0})


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def fake(monkeypatch, name, **members):
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)
    return module


# CSV, for real


def test_csv_has_a_row_for_each_round_with_the_boxes_paid(run):
    listener = Csv().open(run)
    assert not (run.folder / "rounds.csv").exists(), "there is nothing to show yet"
    for figures in ROUNDS:
        listener.booked(figures)
    listener.close()
    assert (run.folder / "rounds.csv").read_text() == (
        "round,boxes,images,ap,ap75\n0,10,4,0.0,\n1,20,8,0.25,\n2,30,12,0.5,\n"
    )


@pytest.mark.parametrize("shown", [0, 1, 2, 3])
@pytest.mark.parametrize("booked", [0, 1, 2, 3])
def test_csv_ends_with_each_round_once_wherever_a_process_was_killed(run, shown, booked):
    """An earlier process booked some rounds and showed some of them, perhaps one less."""
    listener = Csv().open(run)
    for figures in ROUNDS[:shown]:
        listener.booked(figures)
    listener = Csv().open(replace(run, finished=ROUNDS[:booked]))
    for figures in ROUNDS[booked:]:
        listener.booked(figures)
    assert [row["round"] for row in rows(run.folder / "rounds.csv")] == ["0", "1", "2"]


def test_csv_takes_metrics_that_only_some_rounds_have_and_mends_a_damaged_file(run):
    listener = Csv("mine.csv").open(run)
    listener.booked(ROUNDS[0])
    listener.booked(replace(ROUNDS[1], metrics={"ap": 0.5, "ap_at_100": 0.4}))
    path = run.folder / "mine.csv"
    assert [row["ap_at_100"] for row in rows(path)] == ["", "0.4"]
    path.write_text("rubbish")
    Csv("mine.csv").open(replace(run, finished=ROUNDS))
    assert len(rows(path)) == 3


def test_csv_leaves_a_whole_file_untouched(run):
    Csv().open(replace(run, finished=ROUNDS))
    before = (run.folder / "rounds.csv").stat().st_mtime_ns
    Csv().open(replace(run, finished=ROUNDS))
    assert (run.folder / "rounds.csv").stat().st_mtime_ns == before


@pytest.mark.parametrize("file", ["", "../out.csv", "/tmp/out.csv", "a/b.csv"])
def test_csv_writes_nowhere_but_into_the_run(file):
    with pytest.raises(ConfigError, match=r"trackers.*: give the name of a file without a folder"):
        TrackerBlock.model_validate({"name": "csv", "file": file})


# the others, with fakes of their packages


class Writer:
    """What `SummaryWriter` does with the event files of one folder."""

    folders: dict = {}  # noqa: RUF012

    def __init__(self, log_dir, purge_step=None):
        events = self.folders.setdefault(log_dir, [])
        self.events = self.folders[log_dir] = [e for e in events if purge_step is None or e[0] < purge_step]
        self.closed = False

    def add_scalar(self, tag, scalar_value, global_step=None):
        assert not self.closed
        self.events.append((global_step, tag, scalar_value))

    def flush(self):
        """Nothing is buffered here."""

    def close(self):
        self.closed = True


@pytest.fixture
def tensorboard(monkeypatch):
    fake(monkeypatch, "tensorboard")
    fake(monkeypatch, "torch.utils.tensorboard", SummaryWriter=Writer)
    monkeypatch.setattr(Writer, "folders", {})
    return Writer.folders


@pytest.mark.parametrize(("shown", "booked"), [(0, 0), (1, 1), (1, 2), (3, 3)])
def test_tensorboard_shows_each_round_once_over_the_boxes_paid(tensorboard, run, shown, booked):
    listener = TensorBoard().open(run)
    for figures in ROUNDS[:shown]:
        listener.booked(figures)
    listener = TensorBoard().open(replace(run, finished=ROUNDS[:booked]))
    for figures in ROUNDS[booked:]:
        listener.booked(figures)
    listener.close()
    (events,) = tensorboard.values()
    assert list(tensorboard) == [str(run.folder / "tensorboard")]
    assert [event for event in events if event[1] == "ap"] == [(10, "ap", 0.0), (20, "ap", 0.25), (30, "ap", 0.5)]
    assert [event for event in events if event[1] == "images"] == [
        (10, "images", 4),
        (20, "images", 8),
        (30, "images", 12),
    ]
    assert not any(event[1] == "ap75" for event in events), "what is unknown is no number"


class Client:
    """What `MlflowClient` does, with all runs in memory."""

    experiments: dict = {}  # noqa: RUF012
    runs: dict = {}  # noqa: RUF012

    def __init__(self, tracking_uri=None):
        self.uri = tracking_uri

    def get_experiment_by_name(self, name):
        return types.SimpleNamespace(experiment_id=self.experiments[name]) if name in self.experiments else None

    def create_experiment(self, name):
        self.experiments[name] = f"{len(self.experiments)}"
        return self.experiments[name]

    def create_run(self, experiment_id, run_name=None):
        run_id = f"run{len(self.runs)}"
        self.runs[run_id] = {"name": run_name, "params": {}, "history": [], "status": "RUNNING", "in": experiment_id}
        return types.SimpleNamespace(info=types.SimpleNamespace(run_id=run_id))

    def log_param(self, run_id, key, value):
        self.runs[run_id]["params"][key] = value

    def log_metric(self, run_id, key, value, step=None):
        assert self.runs[run_id]["status"] == "RUNNING"
        self.runs[run_id]["history"].append((step, key, value))

    def get_run(self, run_id):
        latest = {key: value for _, key, value in self.runs[run_id]["history"]}
        return types.SimpleNamespace(data=types.SimpleNamespace(metrics=latest))

    def update_run(self, run_id, status=None):
        self.runs[run_id]["status"] = status

    def set_terminated(self, run_id):
        self.runs[run_id]["status"] = "FINISHED"


@pytest.fixture
def mlflow(monkeypatch):
    fake(monkeypatch, "mlflow", MlflowClient=Client)
    monkeypatch.setattr(Client, "experiments", {})
    monkeypatch.setattr(Client, "runs", {})
    return Client


@pytest.mark.parametrize(("shown", "booked"), [(0, 0), (1, 1), (1, 2), (3, 3)])
def test_mlflow_keeps_one_run_and_shows_each_round_once(mlflow, run, shown, booked):
    run.folder.mkdir()
    listener = MLflow().open(run)
    for figures in ROUNDS[:shown]:
        listener.booked(figures)
    listener = MLflow().open(replace(run, finished=ROUNDS[:booked]))
    for figures in ROUNDS[booked:]:
        listener.booked(figures)
    listener.close()
    (kept,) = mlflow.runs.values()
    assert [event for event in kept["history"] if event[1] == "ap"] == [
        (10, "ap", 0.0),
        (20, "ap", 0.25),
        (30, "ap", 0.5),
    ]
    assert [value for _, key, value in kept["history"] if key == "round"] == [0, 1, 2]
    assert kept["params"] == {"strategy": "entropy", "random_seed": 0}
    assert (kept["name"], kept["status"]) == ("entropy_seed0", "FINISHED")


def test_runs_of_a_study_share_an_experiment_of_mlflow(mlflow, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        MLflow().open(TrackedRun(tmp_path / name, "random", 0, {})).close()
    assert mlflow.experiments.keys() == {"alloop"}
    assert [kept["in"] for kept in mlflow.runs.values()] == ["0", "0"]


class WandbRun:
    """What a run of Weights & Biases does: a step that is not larger than the last one is dropped."""

    def __init__(self):
        self.history, self.step, self.finished = [], 0, 0

    def log(self, values, step):
        assert step >= self.step
        self.history.append((step, values))
        self.step = step + 1

    def finish(self):
        self.finished += 1


@pytest.fixture
def wandb(monkeypatch):
    runs, asked = {}, []

    def init(**options):
        asked.append(options)
        return runs.setdefault(options["id"], WandbRun())

    fake(monkeypatch, "wandb", init=init)
    return runs, asked


@pytest.mark.parametrize(("shown", "booked"), [(0, 0), (1, 1), (1, 2), (3, 3)])
def test_wandb_keeps_one_run_and_shows_each_round_once(wandb, run, shown, booked):
    runs, asked = wandb
    listener = WandB(mode="offline").open(run)
    for figures in ROUNDS[:shown]:
        listener.booked(figures)
    listener = WandB(mode="offline").open(replace(run, finished=ROUNDS[:booked]))
    for figures in ROUNDS[booked:]:
        listener.booked(figures)
    listener.close()
    (kept,) = runs.values()
    assert [(step, values["ap"], values["boxes"]) for step, values in kept.history] == [
        (10, 0.0, 10),
        (20, 0.25, 20),
        (30, 0.5, 30),
    ]
    assert kept.finished == 1
    assert asked[0] == asked[1]
    assert asked[0] | {"id": ""} == {
        "project": "alloop",
        "mode": "offline",
        "name": "entropy_seed0",
        "id": "",
        "resume": "allow",
        "dir": str(run.folder),
        "config": {"random_seed": 0},
    }


# the table


@pytest.mark.parametrize("name", TRACKERS)
def test_every_tracker_of_the_table_is_one(name):
    assert isinstance(TrackerBlock.model_validate({"name": name}).make(), TrackerPlugin)


@pytest.mark.parametrize(("name", "plugin"), [("tensorboard", TensorBoard), ("mlflow", MLflow), ("wandb", WandB)])
def test_a_missing_package_is_named_with_what_to_do(monkeypatch, name, plugin):
    monkeypatch.setitem(sys.modules, name, None)  # Python's own way to say that a module cannot be imported
    with pytest.raises(ConfigError, match=rf"trackers: {name} needs the package {name}.*`pip install {name}`"):
        require_packages(name, plugin())
    fake(monkeypatch, name)
    require_packages(name, plugin())


def test_the_tracker_of_the_guide_is_one(tmp_path, monkeypatch, capsys):
    guide = (Path(__file__).parents[2] / "docs" / "trackers.md").read_text()
    (tmp_path / "guide_of_trackers.py").write_text(guide.split("```python\n")[1].split("```")[0])
    monkeypatch.syspath_prepend(tmp_path)
    block = TrackerBlock.model_validate({"name": "guide_of_trackers:Chat", "channel": "boxes"})
    listener = block.make().open(TrackedRun(tmp_path / "r", "random", 0, {}, ROUNDS[:1]))
    listener.booked(ROUNDS[1])
    listener.close()
    assert capsys.readouterr().out.splitlines()[:2] == [
        "#boxes: r goes on after 1 rounds",
        "#boxes: round 1: 20 boxes, AP 0.250",
    ]
