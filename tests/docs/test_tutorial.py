"""Every shell block of both tutorials runs, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("page", "study", "least"), [("tutorial", "study", 8), ("first_study", "project/study", 5)])
def test_a_tutorial_runs_to_its_verdict(tmp_path, page, study, least):
    text = (ROOT / "docs" / f"{page}.md").read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
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
    assert ended.stdout.count("== block") == len(blocks) >= least
    assert "entropy against random at equal boxes" in ended.stdout
    assert (work / study / "report.html").is_file()
