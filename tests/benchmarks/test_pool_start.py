"""The benchmark of large pools measures each part, of this checkout and of another one."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def printed(*options):
    command = [sys.executable, "benchmarks/pool_start.py", "--images", "120", *map(str, options)]
    return subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()


def test_every_part_is_measured_and_compared(tmp_path):
    lines = printed("--rounds", 1, "--folder", tmp_path / "pool", "--before", ROOT)
    assert len(lines) == 10
    assert sum("ratio" in line for line in lines) == 7, "all but what is kept, which an older checkout may not have"
    assert any(line.startswith("begin_run beside reading the images") for line in lines)
    assert len(list((tmp_path / "pool" / "images").rglob("*.jpg"))) == 120 + 50


def test_a_whole_run_prints_its_peak_memory_and_reads_no_image(tmp_path):
    lines = printed("--memory", "--folder", tmp_path / "pool")
    assert lines[1].startswith("peak memory, MiB")
    assert float(lines[1].split()[-1]) > 100
    assert not (tmp_path / "pool" / "images").exists()
