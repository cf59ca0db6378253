"""The time of a whole study against an earlier version of alloop, on the same data and machine.

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/study_time.py CONFIG --before CHECKOUT [--set key=value]...

Both versions run at the same time with one thread each, so that a busy machine disturbs both alike. Prints wall time
and CPU time with their ratios: the wall time is what a user waits for; the CPU time depends less on who else computes.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent.parent
STRATEGIES = "random,entropy,margin,k_center,least_confidence"


def started(checkout: Path, config: Path, sets: list[str], strategies: str, seeds: str, out: Path) -> subprocess.Popen:
    """Start a study with the package in a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    options = [item for text in ["training.device=cpu", "training.threads=1", *sets] for item in ("--set", text)]
    command = [sys.executable, "-m", "alloop", "study", str(config), "--strategies", strategies, "--seeds", seeds]
    log = (out.parent / f"{out.name}.log").open("w")
    return subprocess.Popen(
        [*command, *options, "--quiet", "--out", str(out)], env=environment, stdout=log, stderr=log, cwd=out.parent
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--before", type=Path, required=True, help="a checkout of the earlier version")
    parser.add_argument("--strategies", default=STRATEGIES)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    config = options.config.resolve()
    with tempfile.TemporaryDirectory() as name:
        folder, begin = Path(name), time.monotonic()
        running = {
            "before": started(
                options.before, config, options.sets, options.strategies, options.seeds, folder / "before"
            ),
            "now": started(HERE, config, options.sets, options.strategies, options.seeds, folder / "now"),
        }
        of_process = {process.pid: version for version, process in running.items()}
        wall, cpu = {}, {}
        while of_process:
            pid, status, usage = os.wait4(-1, 0)
            version = of_process.pop(pid)
            wall[version], cpu[version] = time.monotonic() - begin, usage.ru_utime + usage.ru_stime
            print(f"{version}: {wall[version]:.0f} s, {cpu[version]:.0f} CPU s, status {status}", flush=True)
            if status:
                print((folder / f"{version}.log").read_text()[-3000:])
                return 1
    ratio = f"wall {wall['before'] / wall['now']:.2f}, CPU {cpu['before'] / cpu['now']:.2f}"
    print(
        f"{config.name}, {options.strategies} x seeds {options.seeds} {options.sets}: {ratio} times faster (target 2.0)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
