"""Every shell block of the tutorial runs, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
TUTORIAL = ROOT / "docs" / "tutorial.md"


def test_the_tutorial_runs_from_images_to_a_verdict(tmp_path):
    blocks = re.findall(r"^```bash\n(.*?)^```", TUTORIAL.read_text(), re.MULTILINE | re.DOTALL)
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "alloop").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m alloop "$@"\n')
    (commands / "alloop").chmod(0o755)
    work = tmp_path / "work"
    work.mkdir()
    environment = os.environ | {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    numbered = (f"echo '== block {number}'\n{block}" for number, block in enumerate(blocks, start=1))
    script = "set -euo pipefail\n" + "".join(numbered)
    ended = subprocess.run(
        ["bash", "-c", script], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stdout.count("== block") == len(blocks) >= 8
    assert "entropy against random at equal boxes" in ended.stdout
    assert (work / "study" / "report.html").is_file()
