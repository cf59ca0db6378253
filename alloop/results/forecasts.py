"""The forecasts of the runs in a folder."""

from pathlib import Path

from alloop.results.forecast import forecast
from alloop.results.forecast_words import RunForecast
from alloop.results.names import Metric
from alloop.results.runs import find_runs


def run_forecasts(folder: Path, metric: Metric = "ap") -> list[RunForecast]:
    """Return a forecast for each run of a folder that has more than one round; replicates are left out.

    Raises:
        ConfigError: the folder holds no run that began.
    """
    found = []
    for run in find_runs([folder]):
        boxes, values = run.curve(metric)
        if len(boxes) > 1 and not run.full_label and not run.replicate:
            curve = forecast(boxes, values, metric)
            found.append(RunForecast(run.name, tuple(boxes.tolist()), tuple(values.tolist()), curve))
    return found
