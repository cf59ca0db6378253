"""TFDP and CSOD at full size: ratios to a plain version, to published seconds and to the speed of the memory.

    ALLOOP_DATA=... python benchmarks/pruning.py [tfdp] [csod] [large]

`tfdp` writes a file of the size of COCO (118,000 images, 860,000 instances), made of the three sets in
`annotations_only` again and again under new ids. Times are wall seconds of this machine.
"""

import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
from speed import best, line, read_bandwidth

from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.pruning.subset import prune
from strategies.csod import Prototypes, csod_greedy
from strategies.k_center import k_center_greedy
from strategies.tfdp import Tfdp

SETS = ("taco_official", "nwpu_vhr10", "uavvaste")
IMAGES, INSTANCES = 118_000, 860_000
PUBLISHED = {200: 15.0, 500: 42.0, 1000: 80.0, 2000: 158.0}  # seconds of CSOD on VOC, table S3


def repeated(images: int, instances: int) -> bytes:
    """Return a COCO file of given size; images beyond the sources repeat their annotations."""
    folder = Path(os.environ["ALLOOP_DATA"]) / "annotations_only"
    categories: list[dict[str, Any]] = []
    source: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    for name in SETS:
        tree = json.loads(gzip.decompress((folder / f"{name}.json.gz").read_bytes()))
        new = {c["id"]: len(categories) + row for row, c in enumerate(tree["categories"])}
        categories += [{"id": new[c["id"]], "name": f"{name} {c['name']}"} for c in tree["categories"]]
        of: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in tree["images"]}
        for box in tree["annotations"]:
            of[box["image_id"]].append({**box, "category_id": new[box["category_id"]]})
        source += [(image, of[image["id"]]) for image in tree["images"]]
    made = [{**source[row % len(source)][0], "id": 1000 + row} for row in range(images)]

    def boxes() -> Iterator[dict[str, Any]]:
        while True:
            for row in range(images):
                yield from ({**box, "image_id": 1000 + row} for box in source[row % len(source)][1])

    records = [{**box, "id": number + 1} for number, box in zip(range(instances), boxes(), strict=False)]
    return msgspec.json.encode({"images": made, "annotations": records, "categories": categories})


def plain_scores(path: Path) -> tuple[list[float], dict[int, float], float]:
    """Score plainly, with json.load, a whole canvas per instance and sums in dictionaries; return also the seconds."""
    tree = json.loads(path.read_bytes())
    started = time.perf_counter()
    sizes = {image["id"]: (image["width"], image["height"]) for image in tree["images"]}
    rows = []
    for box in tree["annotations"]:
        width, height = sizes[box["image_id"]]
        x, y, w, h = box["bbox"]
        inside = min(min(x + w, width) - max(x, 0), min(y + h, height) - max(y, 0))
        if box.get("iscrowd") or inside < 1 or min(width, height) < 32:
            continue
        canvas = np.zeros((height, width), dtype=np.uint8)
        for polygon in box["segmentation"]:
            cv2.fillPoly(canvas, [np.array(polygon).reshape(-1, 2).astype(np.int32)], 1)
        contours, _ = cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        contour = max(contours, key=cv2.contourArea, default=None)
        area = 0.0 if contour is None else cv2.contourArea(contour)
        perimeter = 0.0 if contour is None else cv2.arcLength(contour, closed=True)
        score = perimeter / area / (2 * math.sqrt(math.pi / area)) if area > 0 else 0.0
        rows.append((box["image_id"], box["category_id"], score))
    rows.sort(key=lambda row: row[0])
    of_class: dict[int, float] = {}
    for _, category, score in rows:
        of_class[category] = of_class.get(category, 0.0) + score
    scores, images = [], dict.fromkeys(sizes, 0.0)
    for image, category, score in rows:
        scores.append(score / of_class[category] if of_class[category] > 0 else 0.0)
        images[image] += scores[-1]
    return scores, images, time.perf_counter() - started


def tfdp() -> None:
    """Time TFDP. Peer: the plain version on the sources once, scaled to the size of the file by its instances."""
    folder = Path(tempfile.mkdtemp())
    small, big = folder / "small.json", folder / "big.json"
    small.write_bytes(repeated(2_922, 12_423))
    big.write_bytes(repeated(IMAGES, INSTANCES))
    scores, images, seconds = plain_scores(small)
    dataset = validate(read_coco(small), "small")
    pruned = prune(dataset, Tfdp(annotations="true"), 1)
    utilities = dict(zip(pruned.ranking.image_ids, pruned.ranking.utilities, strict=True))
    same = pruned.instances is not None and pruned.instances.scores.tolist() == scores
    same_images = all(utilities[i] == score for i, score in images.items() if score > 0)  # type: ignore[index]
    line("tfdp", "instance and image scores equal to the last bit", float(same and same_images), "1", met=same)
    data = big.read_bytes()
    parsers = {"json": json.loads, "msgspec": msgspec.json.decode}
    typed, *plain = best(lambda: read_coco(big), *(lambda p=p: p(data) for p in parsers.values()), repetitions=2)
    fastest = min(plain)
    text = f"read typed {typed:.1f} s, generic parsers {dict(zip(parsers, (round(s, 1) for s in plain), strict=True))}"
    line("tfdp", text, typed / fastest, "at most 2", met=typed <= 2 * fastest)
    peer = plain[0] + seconds * INSTANCES / 12_423
    wall, peak = _command(big, folder / "part.json")
    text = f"alloop prune {wall:.0f} s, plain {peer:.0f} s (scoring {seconds:.0f} s on 12,423 instances)"
    line("tfdp", text, peer / wall, "at least 5, aim 10", met=peer >= 5 * wall)
    size = len(data)
    line(
        "tfdp",
        f"peak {peak / 2**20:.0f} MiB, file {size / 2**20:.0f} MiB",
        peak / size,
        "at most 3",
        met=peak <= 3 * size,
    )


def _command(path: Path, out: Path) -> tuple[float, int]:
    """Return seconds and peak bytes of the command, with reading and writing of files."""
    tell = "next(text for text in open('/proc/self/status') if text.startswith('VmHWM')).split()[1]"
    code = f"import atexit\nfrom alloop.cli.app import main\natexit.register(lambda: print('peak', {tell}))\nmain()"
    command = [sys.executable, "-c", code, "prune", str(path), "--strategy", "tfdp", "--keep", "0.5", "--out", str(out)]
    started = time.perf_counter()
    done = subprocess.run([*command, "--quiet"], check=True, capture_output=True, text=True)
    seconds = time.perf_counter() - started
    return seconds, 1024 * int(done.stdout.rpartition("peak")[2])


def voc_like(width: int, dtype: type = np.float32) -> Prototypes:
    """Return prototypes of classes with 423 to 6,469 of 16,551 images, as in VOC, that cluster by class."""
    random = np.random.default_rng(0)
    sizes = np.concatenate([np.linspace(423, 1760, 19), [6469]]).astype(int)
    image = np.concatenate([np.sort(random.choice(16_551, size, replace=False)) for size in sizes])
    label = np.repeat(np.arange(20), sizes)
    center = random.normal(size=(20, width)).astype(dtype)
    vector = np.abs(center[label] + random.normal(size=(len(label), width)).astype(dtype))
    return Prototypes(image, label, vector)


def plain_csod(prototypes: Prototypes, k: int, weight: float) -> list[int]:
    """Select by equation (4) with the similarity matrix of every class, summed anew at each turn."""
    unit = prototypes.vector / np.linalg.norm(prototypes.vector, axis=1, keepdims=True)
    rows = {c: np.flatnonzero(prototypes.label == c) for c in np.unique(prototypes.label)}
    matrix = {c: unit[r] @ unit[r].T for c, r in rows.items()}
    left = {c: np.ones(len(r), dtype=bool) for c, r in rows.items()}
    picked: list[int] = []
    while len(picked) < k:
        for c, members in rows.items():
            if len(picked) == k or not left[c].any():
                continue
            score = weight * matrix[c][:, left[c]].sum(axis=1) - matrix[c][:, ~left[c]].sum(axis=1)
            image = int(prototypes.image[members[np.where(left[c], score, -np.inf).argmax()]])
            picked.append(image)
            for d, others in rows.items():
                left[d][prototypes.image[others] == image] = False
    return picked


def csod() -> None:
    """Time CSOD. Peers: the published seconds, and the plain version in this run."""
    prototypes = voc_like(2048)
    for k, published in PUBLISHED.items():
        weight = {200: 0.04375, 500: 0.0625}.get(k, 0.125)
        (seconds,) = best(lambda k=k, w=weight: csod_greedy(prototypes, k, w), repetitions=2)
        text = f"{k} of 16,551 images in {seconds:.2f} s, {1e3 * seconds / k:.2f} ms each, published {published:.0f} s"
        line("csod", text, published / seconds, "at least 20", met=published >= 20 * seconds)
    precise = voc_like(64, np.float64)
    same = csod_greedy(precise, 2000, 0.0625)[0] == plain_csod(precise, 2000, 0.0625)
    line("csod", "2000 picks in float64 are those of the plain version, in order", float(same), "1", met=same)
    for k in (200, 2000):
        started = time.perf_counter()
        expected = plain_csod(prototypes, k, 0.0625)
        plain = time.perf_counter() - started
        (seconds,) = best(lambda k=k: csod_greedy(prototypes, k, 0.0625), repetitions=5)
        both = len(set(csod_greedy(prototypes, k, 0.0625)[0]) & set(expected))
        text = f"{k} images in {seconds:.2f} s, with similarity matrices {plain:.1f} s, {both} in common"
        line("csod", text, plain / seconds, "at least 20", met=plain >= 20 * seconds)


def large() -> None:
    """Time CSOD. Floor: the bytes of the vectors that every pick must read, at the measured speed of the memory."""
    random = np.random.default_rng(0)
    features = random.normal(size=(IMAGES, 256)).astype(np.float32)
    bandwidth = read_bandwidth(features)
    (seconds,) = best(lambda: k_center_greedy(features, [], 400), repetitions=2)
    floor = 400 * features.nbytes / bandwidth
    text = f"k_center 400 of 118,000 x 256 in {seconds:.1f} s, floor {floor:.1f} s at {bandwidth / 1e9:.1f} GB/s"
    line("large", text, floor / seconds, "reported", met=True)
    shows = 3 * IMAGES  # COCO: 2.9 classes per image
    image = np.sort(random.integers(0, IMAGES, shows))
    label = np.minimum((80 * random.random(shows) ** 3).astype(int), 79)
    pairs = np.unique(np.stack([label, image]), axis=1)
    vector = np.abs(random.normal(size=(pairs.shape[1], 256)).astype(np.float32))
    prototypes = Prototypes(pairs[1], pairs[0], vector)
    few, many = best(*(lambda k=k: csod_greedy(prototypes, k, 0.05) for k in (80, 880)), repetitions=2)
    streamed = vector.nbytes * 10  # 800 more turns go ten times round the 80 classes
    floor = streamed / bandwidth
    text = f"csod 800 picks of 118,000 images, 80 classes, in {many - few:.1f} s, floor {floor:.1f} s"
    line("large", text, floor / (many - few), "reported", met=True)
    code = (
        "import numpy as np\nfrom strategies.csod import Prototypes, csod_greedy\n"
        "v = np.random.default_rng(0).random((64_000, 2048), dtype=np.float32)\nr = np.arange(64_000)\n"
        "csod_greedy(Prototypes(r, np.zeros_like(r), v), 20, 0.05)\n"
        "print(next(text for text in open('/proc/self/status') if text.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    peak = int(done.stdout) * 1024
    text = f"csod on one class of 64,000 images x 2048: peak {peak / 2**30:.2f} GiB"
    line("large", text, peak / 2**32, "4 GiB", met=peak <= 2**32)


if __name__ == "__main__":
    for name in sys.argv[1:] or ["tfdp", "csod", "large"]:
        {"tfdp": tfdp, "csod": csod, "large": large}[name]()
