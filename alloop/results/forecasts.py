"""The forecasts of the runs in a folder."""

from pathlib import Path

from alloop.results.forecast import forecast
from alloop.results.forecast_words import RunForecast
from alloop.results.names import Metric
from alloop.results.runs import Run, find_runs


def run_forecasts(folder: Path, metric: Metric = "ap") -> list[RunForecast]:
    """Return a forecast for each run of a folder that has more than one round; replicates are left out.

    Raises:
        ConfigError: the folder holds no run that began.
    """
    found = [forecast_of(run, metric) for run in find_runs([folder]) if not run.replicate]
    return [one for one in found if one is not None]


def forecast_of(run: Run, metric: Metric) -> RunForecast | None:
    """Return the forecast of a run that has more than one round with boxes and a budget."""
    boxes, values = run.curve(metric)
    if len(boxes) < 2 or run.full_label:
        return None
    return RunForecast(run.name, tuple(boxes.tolist()), tuple(values.tolist()), forecast(boxes, values, metric))
