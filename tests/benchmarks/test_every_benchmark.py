"""Every benchmark can be imported: a name that it takes from the package has not moved away unnoticed."""

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_every_benchmark_can_be_imported():
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert len(names) > 25
    lines = "\n".join(f"import {name}" for name in names)
    result = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path.append({str(FOLDER)!r})\n{lines}"],
        cwd=FOLDER.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
