"""alloop: active learning for object detection with an exact account of every box that is paid for.

`import alloop` loads neither torch nor matplotlib; the names below load what they need when used.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from alloop.config import load_config
    from alloop.exporting.export import export
    from alloop.loop.engine import run_experiment
    from alloop.predictions.selecting import select
    from alloop.report.notebook import plot
    from alloop.results.compare import compare_runs
    from alloop.results.runs import open_run
    from alloop.studies.grid import run_study

_HOMES = {
    "compare_runs": "alloop.results.compare",
    "export": "alloop.exporting.export",
    "load_config": "alloop.config",
    "open_run": "alloop.results.runs",
    "plot": "alloop.report.notebook",
    "run_experiment": "alloop.loop.engine",
    "run_study": "alloop.studies.grid",
    "select": "alloop.predictions.selecting",
}

__all__ = [
    "__version__",
    "compare_runs",
    "export",
    "load_config",
    "open_run",
    "plot",
    "run_experiment",
    "run_study",
    "select",
]


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    if name not in _HOMES:
        msg = f"module 'alloop' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(_HOMES[name]), name)
