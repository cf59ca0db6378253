"""The files that stand for a detector, written from a query over the fake detector."""

import csv
import json
from pathlib import Path

import numpy as np

from alloop.predictions.selecting import Files

SIDE = 128  # pixels of every image
CLASSES = ("cat", "dog", "bird")
CATEGORY_IDS = (7, 3, 90)


def name_of(image_id):
    return f"day{image_id % 3}/{image_id}.jpg"


def write_pool(path, image_ids, labeled=()):
    """Write the images as a COCO file in which nobody has annotated those outside of `labeled`."""
    images = [{"id": int(i), "file_name": name_of(i), "width": SIDE, "height": SIDE} for i in image_ids]
    categories = [{"id": k, "name": name} for k, name in zip(CATEGORY_IDS, CLASSES, strict=True)]
    unlabeled = [int(i) for i in image_ids if i not in labeled]
    boxes = [
        {"id": n, "image_id": int(i), "category_id": CATEGORY_IDS[label], "bbox": [*box[:2], *(box[2:] - box[:2])]}
        for n, (i, box, label) in enumerate(
            (i, box.astype(float), int(label))
            for i, truth in dict(labeled).items()
            for box, label in zip(truth.boxes, truth.labels, strict=True)
        )
    ]
    tree = {"images": images, "categories": categories, "annotations": boxes, "unlabeled": unlabeled}
    path.write_text(json.dumps(tree))
    return path


def results_of(image_ids, detections, *, posteriors=True):
    """Return COCO results with every bit of the scores and posteriors."""
    return [
        {
            "image_id": int(image_id),
            "category_id": CATEGORY_IDS[int(label)],
            "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
            "score": float(score),
            **({"probabilities": p.astype(float).tolist()} if posteriors else {}),
        }
        for image_id, found in zip(image_ids, detections, strict=True)
        for box, label, score, p in zip(
            found.boxes.astype(float), found.labels, found.scores, found.probabilities, strict=True
        )
    ]


def write_results(path, results):
    path.write_text(json.dumps(results))
    return path


def write_csv(path, results):
    """Write results as CSV with corners, class names and file names."""
    names = dict(zip(CATEGORY_IDS, CLASSES, strict=True))
    heads = ["image", "class", "x1", "y1", "x2", "y2", "score", "remark"]
    heads += [f"p:{name}" for name in CLASSES if results and "probabilities" in results[0]]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(heads)
        for one in results:
            x, y, w, h = one["bbox"]
            cells = [name_of(one["image_id"]), names[one["category_id"]], x, y, x + w, y + h, one["score"], "seen"]
            writer.writerow(cells + one.get("probabilities", []))
    return path


def write_yolo(folder, results):
    """Write results as YOLO text files, one for each image that has a detection."""
    lines = {}
    for one in results:
        x, y, w, h = np.array(one["bbox"]) / SIDE
        label = CATEGORY_IDS.index(one["category_id"])
        lines.setdefault(one["image_id"], []).append(
            f"{label} {x + w / 2!r} {y + h / 2!r} {w!r} {h!r} {one['score']!r}"
        )
    for image_id, own in lines.items():
        path = (folder / name_of(image_id)).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(own).replace("np.float64(", "").replace(")", ""))
    return folder


def files_of(query, folder: Path, *, posteriors=True, sigmas=(), regions=False):
    """Write what a query over the fake detector sees, and return the files."""
    ids = sorted([*query.unlabeled, *query.labeled])
    detector = query.detector
    predictions = results_of(ids, detector.detections(ids), posteriors=posteriors)
    np.save(folder / "embeddings.npy", detector.embeddings(ids))
    noisy = {
        float(sigma): write_results(
            folder / f"noisy{sigma:g}.json", results_of(ids, detector.noisy_detections(ids, sigma, query.random_seed))
        )
        for sigma in sigmas
    }
    return Files(
        pool=write_pool(folder / "pool.json", ids, query.labeled),
        predictions=(write_results(folder / "predictions.json", predictions),),
        embeddings=folder / "embeddings.npy",
        noisy=noisy,
        **(_regions_of(query, ids, folder) if regions else {}),
    )


def _regions_of(query, ids, folder):
    """Write the vectors of the predicted boxes, row by row, and of the labeled ones, image by image."""
    predicted = {i: found.boxes for i, found in zip(ids, query.detector.detections(ids), strict=True)}
    labeled = {i: query.labeled[i].boxes for i in sorted(query.labeled)}
    paths = {}
    for name, boxes in {"regions": predicted, "labeled_regions": labeled}.items():
        paths[name] = folder / f"{name}.npy"
        np.save(paths[name], np.concatenate(query.detector.region_features(list(boxes), boxes)))
    return paths
