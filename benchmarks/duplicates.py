"""Perceptual hashing and the search for near duplicates, each against its floor in the same run.

    python benchmarks/duplicates.py FOLDER_OF_IMAGES [FOLDER_OF_IMAGES ...]

Hashing: the floor is decoding alone, of the same JPEG files at the same draft size in as many threads; the peer is
decoding every pixel, as every other step of a run does. The search looks for all near duplicates among 100,000
hashes of random crops of the same images, so the hashes are as uneven as those of real images; the peer compares every
hash with every other in numpy, measured on a part and scaled up.
"""

import io
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from speed import best

from alloop.data.fingerprints import fingerprint
from alloop.data.hamming import near_groups, near_pairs, nearest
from alloop.data.images import FolderImages
from alloop.data.leaks import NEAR
from alloop.data.perceptual_hash import hash_of_pixels
from alloop.values import ImageId, ImageRecord

HASHES = 100_000
PART = 2_000  # rows that the quadratic peer compares with all


def hashing(folder: Path, files: Sequence[Path]) -> None:
    """Time fingerprints of files against decoding them."""
    records = {ImageId(row): ImageRecord(ImageId(row), str(f.relative_to(folder)), 1, 1) for row, f in enumerate(files)}
    source, workers = FolderImages(folder, records), os.cpu_count() or 1
    data = [file.read_bytes() for file in files]

    def in_threads(function: object, items: Sequence[object]) -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(function, items))  # type: ignore[arg-type]

    def draft(encoded: bytes) -> None:
        image = Image.open(io.BytesIO(encoded))
        image.draft("L", (64, 64))
        image.convert("L")

    def whole(encoded: bytes) -> None:
        np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))

    own, floor, peer = best(
        lambda: in_threads(lambda image_id: fingerprint(source, image_id), list(records)),
        lambda: in_threads(draft, data),
        lambda: in_threads(whole, data),
    )
    n = len(files)
    print(
        f"hashing      {n / own:.0f} images/s with {workers} threads, sha256 included; decoding at the draft size "
        f"{n / floor:.0f}, every pixel {n / peer:.0f}; ratio {floor / own:.2f} to the draft, {peer / own:.2f} to every "
        f"pixel; 100,000 images in {100_000 * own / n:.0f} s",
        flush=True,
    )


def crops(files: Sequence[Path], count: int) -> np.ndarray:
    """Return the hashes of random crops, a tenth of them moved by a pixel or two from the one before."""
    random = np.random.default_rng(0)
    each = -(-count // len(files))
    hashes: list[int] = []
    for file in files:
        pixels = np.asarray(Image.open(file).convert("RGB").resize((320, 240)))
        x = y = 0
        for number in range(each):
            if number and random.random() < 0.1:
                x, y = min(x + 2, 224), min(y + 1, 144)
            else:
                x, y = int(random.integers(224)), int(random.integers(144))
            hashes.append(hash_of_pixels(pixels[y : y + 96, x : x + 96]))
    return np.array(hashes[:count], dtype=np.uint64)


def searching(hashes: np.ndarray) -> None:
    """Time groups, pairs and nearest neighbours against comparing all with all."""
    half = len(hashes) // 2

    def quadratic() -> None:
        for row in hashes[:PART]:
            np.bitwise_count(hashes ^ row).min()

    started = time.perf_counter()
    quadratic()
    peer = (time.perf_counter() - started) * len(hashes) / PART / 2  # each pair once
    for name, function in {
        "groups": lambda: near_groups(hashes, NEAR),
        "pairs": lambda: near_pairs(hashes, NEAR),
        "nearest": lambda: nearest(hashes[:half], hashes[half:], NEAR),
    }.items():
        (own,) = best(function, repetitions=3)
        print(
            f"search       {name} of {len(hashes):,} hashes within {NEAR} bits: {own:.2f} s, all pairs in numpy about "
            f"{peer:.0f} s; ratio {peer / own:.0f} (target under 10 s) {'ok' if own < 10 else 'MISSED'}",
            flush=True,
        )
    print(f"search       {len(near_pairs(hashes, NEAR)[0]):,} pairs, {len(set(near_groups(hashes, NEAR)))} groups")


if __name__ == "__main__":
    folders = [Path(text) for text in sys.argv[1:]]
    every = {folder: sorted(folder.rglob("*.jpg")) for folder in folders}
    for folder, files in every.items():
        print(f"{folder.name}: {len(files)} JPEG files")
        hashing(folder, files)
    searching(crops([file for files in every.values() for file in files], HASHES))
