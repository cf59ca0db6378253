"""The digest and the time of one run with an empty, a warm, a damaged and no cache: four digests that must be one.

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/cache_digests.py CONFIG [--set key=value]...

The digest is that of all selections, charges, metrics and hashes of models. Exit 1 where two differ.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from alloop.config import load_config
from alloop.ledger.store import read_ledger
from alloop.loop.engine import run_experiment
from strategies import TABLE


def digest(run: Path) -> str:
    """Return the hash of everything that a run has found."""
    with read_ledger(run) as ledger:
        rounds = [(record.round, record.images, record.boxes, record.metrics) for record in ledger.rounds()]
        models = [(path, sha256) for path, sha256, step in ledger.files() if step is None]
        found = (rounds, models, ledger.charges(), ledger.selections())
    return hashlib.sha256(repr(found).encode()).hexdigest()


def damage(cache: Path) -> None:
    """Cut every second entry short, and delete every fourth."""
    for number, path in enumerate(sorted(path for path in cache.rglob("*") if path.is_file())):
        if number % 4 == 0:
            path.unlink()
        elif number % 2:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    plain = load_config(options.config, ["training.device=cpu", *options.sets])
    nothing_kept = load_config(options.config, ["training.device=cpu", *options.sets, "training.cache_gib=1e-9"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = folder / "cache"
        states: dict[str, Callable[[], object]] = {
            "empty": lambda: None,
            "warm": lambda: None,
            "damaged": lambda: damage(cache),
            "none": lambda: shutil.rmtree(cache),
        }
        digests = []
        for state, prepare in states.items():
            prepare()
            started = time.perf_counter()
            run_experiment(nothing_kept if state == "none" else plain, folder / state, TABLE, cache=cache)
            digests.append(digest(folder / state))
            print(f"{state:<8} {digests[-1]}  {time.perf_counter() - started:.0f} s", flush=True)
    return len(set(digests)) > 1


if __name__ == "__main__":
    sys.exit(main())
