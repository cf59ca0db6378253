"""Forecasts against the curves that were recorded: `python benchmarks/forecast.py`.

Each curve in `benchmarks/results` that has at least five rounds is cut after half of them (three of five or six), and
AP of its last round is predicted. Printed are, for each file and metric: how many times the boxes paid that round lies
ahead; how often the 95 % interval holds its AP, the noise of a training included; the mean error (seen minus predicted)
and in parentheses the mean absolute error; and these two for a power law with a ceiling, c - a n^-b, by least squares,
and for the last AP that was seen.
"""

import csv
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from alloop.results.forecast import ROUNDS, forecast
from alloop.results.names import Metric

RESULTS = Path(__file__).parent / "results"


def recorded(path: Path, metric: Metric) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return boxes and AP of each run of a file."""
    runs = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            if row[metric]:
                runs[row["strategy"], row["random_seed"]].append((float(row["boxes"]), float(row[metric])))
    return [tuple(np.array(points).T) for points in runs.values()]


def power_law(n: np.ndarray, y: np.ndarray, boxes: float) -> float:
    """Return what a power law with a ceiling, fitted by least squares, says about a number of boxes."""

    def curve(x: np.ndarray, c: float, a: float, b: float) -> np.ndarray:
        return c - a * (x / n[-1]) ** -b

    start, bounds = (y[-1] + 0.1, 0.1, 0.5), ((0, 0, 0.05), (1, 2, 3))
    found, _ = curve_fit(curve, n, y, start, bounds=bounds, max_nfev=5000)
    return float(curve(np.array(boxes), *found))


def main() -> None:
    warnings.simplefilter("ignore", OptimizeWarning)  # three rounds leave no spread to judge the fit by
    draw = np.random.default_rng(0)
    every: dict[str, list[list[float]]] = defaultdict(list)
    for path in sorted(RESULTS.glob("*.csv")):
        for metric in ("ap", "ap50"):
            rows = []
            for n, y in recorded(path, metric):
                half = max(ROUNDS, len(n) // 2)
                if len(n) < 5 or n[half - 1] == n[-1]:
                    continue
                found = forecast(n[:half], y[:half], metric)
                if found is None:  # a round bought nothing
                    continue
                curves = found.curves_at(n[-1])
                seen = curves + found.noise * draw.normal(size=len(curves))
                order = np.argsort(seen)
                low, middle, high = seen[order][
                    np.searchsorted(np.cumsum(found.weights[order]), (0.025, 0.5, 0.975)).clip(max=len(seen) - 1)
                ]
                error = y[-1] - np.array([middle, power_law(n[:half], y[:half], n[-1]), y[half - 1]])
                rows.append([low <= y[-1] <= high, *error, *abs(error), n[-1] / n[half - 1]])
                every[metric].append(rows[-1])
            if rows:
                print(f"{path.stem}, {metric}: {summary(rows)}")
    for metric, rows in every.items():
        print(f"all, {metric}: {summary(rows)}")


def summary(rows: list[list[float]]) -> str:
    """Return the means over runs in words."""
    held, *errors, ahead = np.mean(np.array(rows, dtype=float), axis=0)
    names = ("this curve", "power law", "last AP")
    text = ", ".join(f"{name} {errors[i]:+.3f} ({errors[i + 3]:.3f})" for i, name in enumerate(names))
    return f"{len(rows)} runs, {ahead:.1f} times ahead, held {held * len(rows):.0f} times; {text}"


if __name__ == "__main__":
    main()
