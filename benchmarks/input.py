"""How fast images reach the detector: large photographs, and reading ahead of a step.

    python benchmarks/input.py [--before CHECKOUT] [--photographs N]

Photographs: CPU time to decode and scale generated JPEG files of 12 megapixels, once each, as in a first epoch. Peer:
the same by an earlier version of alloop, in turn. Floor: libjpeg at the scale that is used, without anything else.
Waiting: the share of a step in which a device waits for its images. The device and the decoder are simulated by sleep,
so the figure says what reading ahead hides, whatever the machine.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from alloop.data.ahead import Ahead

WIDTH, HEIGHT = 4032, 3024
SIDES = (240, 800)  # short sides
READ = """
import sys, time
from pathlib import Path
from alloop.data.images import FolderImages
from alloop.data.pixels import PixelCache
from alloop.values import ImageRecord
folder, side = Path(sys.argv[1]), int(sys.argv[2])
records = {k: ImageRecord(k, p.name, 4032, 3024) for k, p in enumerate(sorted(folder.glob("*.jpg")))}
source = FolderImages(folder, records)
before = sys.argv[3] == "before"
cache = PixelCache(source, list(records), side, 5 * side, 2**33) if before else PixelCache(source, side, 5 * side)
started = time.process_time()
for image_id in records:
    cache.read(image_id)
print((time.process_time() - started) / len(records))
"""


def photograph(seed: int) -> bytes:
    """Return a JPEG with as much detail at every scale as photographs have: amplitudes fall with the frequency."""
    chance = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(HEIGHT)[:, None], np.fft.rfftfreq(WIDTH)[None])
    frequency[0, 0] = 1
    noise = chance.normal(size=frequency.shape) + 1j * chance.normal(size=frequency.shape)
    plane = np.fft.irfft2(noise / frequency**1.2, s=(HEIGHT, WIDTH))
    gray = 128 + 45 * plane / plane.std()
    colours = np.stack([gray + chance.normal(0, 3, gray.shape) for _ in range(3)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(colours.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def seconds_of(checkout: Path, folder: Path, side: int, version: str) -> float:
    """Return the CPU seconds an image takes in a process of its own."""
    command = [sys.executable, "-c", READ, str(folder), str(side), version]
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve())}
    done = subprocess.run(command, env=environment, cwd=folder, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout)


def floor(files: list[Path], side: int) -> float:
    """Return the CPU seconds that libjpeg takes for an image at the largest scale that leaves 1.5 times the side."""
    started = time.process_time()
    for file in files:
        image = Image.open(file)
        image.draft(None, (round(1.5 * side * WIDTH / HEIGHT), round(1.5 * side)))
        image.load()
    return (time.process_time() - started) / len(files)


def photographs(before: Path | None, count: int) -> None:
    """Print CPU milliseconds an image, and the ratios."""
    here = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(count):
            (folder / f"{number}.jpg").write_bytes(photograph(number))
        files = sorted(folder.glob("*.jpg"))
        for side in SIDES:
            versions = {"now": here} | ({"before": before} if before else {})
            best = dict.fromkeys(versions, float("inf"))
            least = float("inf")
            for _ in range(3):
                for version, checkout in versions.items():
                    best[version] = min(best[version], seconds_of(checkout, folder, side, version))
                least = min(least, floor(files, side))
            text = (
                f"12 megapixels to short side {side}: {1000 * best['now']:.0f} ms, libjpeg alone {1000 * least:.0f} ms"
            )
            ratio = (
                f"; before {1000 * best['before']:.0f} ms, ratio {best['before'] / best['now']:.1f}" if before else ""
            )
            print(f"{text}{ratio} (target 4)", flush=True)


def waiting(step: float = 0.08, read: float = 0.02, batch: int = 8, steps: int = 25) -> None:
    """Print the share of steps in which the device waits, for several numbers of threads."""

    def slow(_key: int) -> None:
        time.sleep(read)

    for threads in (0, 1, 2, 4, 8):
        ahead = Ahead(slow, threads)
        waited = 0.0
        for number in range(steps):
            first = number * batch
            ahead.expect("training", range(first, first + batch + max(4 * threads, 2 * batch)))
            started = time.perf_counter()
            for key in range(first, first + batch):
                ahead.read(key)
            if number:  # nothing could be read ahead of the first step
                waited += time.perf_counter() - started
            time.sleep(step)
        share = waited / (waited + step * (steps - 1))
        reading = batch * read / max(1, threads)
        least = 1 - step / max(step, reading) if threads else reading / (reading + step)
        what = f"device {1000 * step:.0f} ms a step, {1000 * read:.0f} ms an image, {threads} threads"
        print(f"{what}: waits {share:.1%} of the time (at least {least:.1%})", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--photographs", type=int, default=4)
    options = parser.parse_args()
    waiting()
    photographs(options.before, options.photographs)


if __name__ == "__main__":
    main()
