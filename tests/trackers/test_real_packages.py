"""The trackers with the packages themselves: what they read back is what was booked. Skipped where one is missing."""

from dataclasses import replace

import pytest

from alloop.trackers.mlflow import MLflow
from alloop.trackers.tensorboard import TensorBoard
from alloop.trackers.tracker import RoundFigures, TrackedRun
from alloop.trackers.wandb import WandB

ROUNDS = tuple(RoundFigures(k, 10 * (k + 1), 4 * (k + 1), {"ap": 0.25 * k, "ap75": None}) for k in range(3))
AP = [(10, 0.0), (20, 0.25), (30, 0.5)]


@pytest.fixture
def shown(tmp_path):
    """Return a function that shows three rounds by a tracker, in two processes' turns, and returns the run's folder."""

    def show(plugin):
        run = TrackedRun(tmp_path / "entropy_seed0", "entropy", 0, {"random_seed": 0})
        run.folder.mkdir()
        for finished, booked in ((0, ROUNDS[:2]), (2, ROUNDS[2:])):
            listener = plugin.open(replace(run, finished=ROUNDS[:finished]))
            for figures in booked:
                listener.booked(figures)
            listener.close()
        return run.folder

    return show


def test_tensorboard_reads_each_round_once(shown):
    module = "tensorboard.backend.event_processing.event_accumulator"
    reading = pytest.importorskip(module, reason="tensorboard is not installed: the real one is not tested")
    events = reading.EventAccumulator(str(shown(TensorBoard()) / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("ap")] == AP
    assert sorted(events.Tags()["scalars"]) == ["ap", "images", "round"]


@pytest.mark.filterwarnings("ignore")  # it calls what its own packages have deprecated
def test_mlflow_reads_each_round_once(shown, tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed: the real one is not tested")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    shown(MLflow(tracking_uri=uri))
    client = mlflow.MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("alloop").experiment_id])
    assert run.info.status == "FINISHED"
    assert [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "ap")] == AP
    assert run.data.params == {"strategy": "entropy", "random_seed": "0"}


def test_wandb_writes_both_turns_offline(shown):
    pytest.importorskip("wandb", reason="wandb is not installed: the real one is not tested")
    folder = shown(WandB(mode="offline")) / "wandb"
    assert len([path for path in folder.iterdir() if path.name.startswith("offline-run-")]) == 2
