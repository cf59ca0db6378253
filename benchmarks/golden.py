"""Check golden vectors: `python benchmarks/golden.py DIR`.

Every file of DIR that is known here is checked, one line each: name, cases, largest error, ok or not.
Exit 1 when any is off or when DIR holds no known file.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from strategies.k_center import k_center_greedy


def k_center(tree: dict[str, Any]) -> tuple[int, float]:
    """(cases, largest number of picks that differ in one case)."""
    errors = []
    for case in tree["cases"]:
        expected = case["picked_rows"]
        features = np.array(case["X"], dtype=np.float64)
        picked = k_center_greedy(features, case["labeled_rows"], len(expected), case["metric"])
        errors.append(sum(a != b for a, b in zip(picked, expected, strict=True)))
    return len(errors), float(max(errors))


# file name -> (check, largest error allowed)
KNOWN: dict[str, tuple[Callable[[dict[str, Any]], tuple[int, float]], float]] = {"kcenter.json": (k_center, 0.0)}


def main(folder: Path) -> int:
    found = [name for name in KNOWN if (folder / name).is_file()]
    if not found:
        print(f"{folder}: expected some of {', '.join(KNOWN)}, found none", file=sys.stderr)
        return 1
    failed = 0
    for name in found:
        check, allowed = KNOWN[name]
        cases, error = check(json.loads((folder / name).read_text()))
        good = error <= allowed
        failed += not good
        print(f"{name}: {cases} cases, largest error {error:g}, {'ok' if good else 'NOT OK'}")
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/golden.py DIR")
    sys.exit(main(Path(sys.argv[1])))
