"""Kill a real run at random moments, resume it each time, and compare it with one that was never stopped.

    python benchmarks/kill.py CONFIG [--kills 20] [--set key=value]...

Every attempt is a new process that gets SIGKILL at a random moment after its start. Ledger, selections, metrics and the
hashes of all models must equal those of the straight run. Prints one line; exit 1 when anything differs.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alloop.ledger.audit import audit
from alloop.ledger.store import read_ledger


def record(folder: Path) -> tuple[object, ...]:
    with read_ledger(folder) as ledger:
        assert audit(ledger) == []
        rounds = [(r.round, r.images, r.boxes, dict(r.metrics), dict(r.per_class)) for r in ledger.rounds()]
        models = [(path, sha256) for path, sha256, step in ledger.files() if step is None]
        return ledger.charges(), ledger.selections(), rounds, models


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--set", action="append", default=[], dest="sets")
    options = parser.parse_args()
    sets = [item for text in options.sets for item in ("--set", text)]
    command = [sys.executable, "-m", "alloop", "run", str(options.config), *sets, "--quiet", "--out"]
    chance = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        straight, killed = Path(folder) / "straight", Path(folder) / "killed"
        started = time.monotonic()
        subprocess.run([*command, str(straight)], check=True, stdout=subprocess.DEVNULL)
        whole = time.monotonic() - started
        kills = resumed = 0
        while True:
            process = subprocess.Popen([*command, str(killed)], stdout=subprocess.DEVNULL)
            resumed += 1
            try:
                # the first seconds of a start go into imports, so moments are drawn past them as well
                limit = chance.uniform(0.5, 9.0 + whole / options.kills) if kills < options.kills else None
                process.wait(limit)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.wait()
                kills += 1
                continue
            if process.returncode != 0:
                return process.returncode
            break
        same = record(straight) == record(killed)
        print(
            f"{options.config.name}: straight run {whole:.0f} s; {kills} times SIGKILL in {resumed} starts; "
            f"ledger, selections, metrics and models {'identical' if same else 'DIFFER'}"
        )
        return int(not same or kills < options.kills)


if __name__ == "__main__":
    sys.exit(main())
