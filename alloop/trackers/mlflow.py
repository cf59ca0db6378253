"""MLflow: a run with a metric for each figure, over the boxes paid."""

import importlib
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from alloop.files import atomic_write
from alloop.trackers.tracker import RoundFigures, TrackedRun

RUN_ID = "mlflow_run_id.txt"  # in the folder of the run, so that a run that goes on stays one run of MLflow


@dataclass(frozen=True)
class MLflow:
    """A run of MLflow. The step is the number of boxes paid."""

    packages: ClassVar[tuple[str, ...]] = ("mlflow",)

    experiment: Annotated[str, Field(description="name of the experiment, which is made if it is not there")] = "alloop"
    tracking_uri: Annotated[str | None, Field(description="where MLflow stores runs; null for its own default")] = None

    def open(self, run: TrackedRun) -> "MLflowRun":
        """Begin a run of MLflow or go on with it, and show the finished rounds that it lacks."""
        client: Any = importlib.import_module("mlflow").MlflowClient(tracking_uri=self.tracking_uri)
        known = run.folder / RUN_ID
        if known.is_file():
            listener = MLflowRun(client, known.read_text().strip())
            client.update_run(listener.run_id, status="RUNNING")
        else:
            listener = MLflowRun(client, self._begun(client, run))
            atomic_write(known, listener.run_id.encode())
        shown = client.get_run(listener.run_id).data.metrics.get("round", -1)
        for figures in run.finished:
            if figures.round > shown:
                listener.booked(figures)
        return listener

    def _begun(self, client: Any, run: TrackedRun) -> str:
        """Return the id of a new run of MLflow."""
        found = client.get_experiment_by_name(self.experiment)
        experiment_id = client.create_experiment(self.experiment) if found is None else found.experiment_id
        run_id: str = client.create_run(experiment_id, run_name=run.name).info.run_id
        client.log_param(run_id, "strategy", run.strategy)
        client.log_param(run_id, "random_seed", run.random_seed)
        return run_id


class MLflowRun:
    """An open run of MLflow."""

    def __init__(self, client: Any, run_id: str) -> None:
        """Keep an `MlflowClient` and the id of the run."""
        self._client, self.run_id = client, run_id

    def booked(self, figures: RoundFigures) -> None:
        """Write the figures; the number of the round comes last and says that the others are there."""
        for name, value in {**figures.known(), "images": figures.images, "round": figures.round}.items():
            self._client.log_metric(self.run_id, name, value, step=figures.boxes)

    def close(self) -> None:
        """Mark the run of MLflow as finished; it is opened again where our run goes on."""
        self._client.set_terminated(self.run_id)
