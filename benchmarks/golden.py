"""Check golden vectors: `python benchmarks/golden.py DIR`.

Every file of DIR that is known here is checked, one line each: name, cases, largest error, ok or not.
Exit 1 when any is off or when DIR holds no known file.
"""

import dataclasses
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.detectors.last_layers import curvature
from alloop.testing import make_query
from alloop.training.semi_supervised.gradient_balance import ClassWeights, gradient_matrix
from strategies.csod import Prototypes, csod_greedy
from strategies.inverse_hessian import Product, s_test
from strategies.k_center import k_center_greedy
from strategies.tfdp import Tfdp

TACO = "annotations_only/taco_official.json.gz"


def k_center(tree: dict[str, Any]) -> tuple[int, float]:
    """Return the number of cases, and the largest number of picks that differ in one case."""
    errors = []
    for case in tree["cases"]:
        expected = case["picked_rows"]
        features = np.array(case["X"], dtype=np.float64)
        picked = k_center_greedy(features, case["labeled_rows"], len(expected), case["metric"])
        errors.append(sum(a != b for a, b in zip(picked, expected, strict=True)))
    return len(errors), float(max(errors))


def influence(tree: dict[str, Any]) -> tuple[int, float]:
    """Return the number of softmax regressions, samples in order, and the largest relative error of s_test."""
    errors = []
    for case in tree["cases"]:
        weights = {"weight": torch.tensor(case["W"], dtype=torch.float64)}
        rows, labels = torch.tensor(case["X"], dtype=torch.float64), torch.tensor(case["Y"])
        products = [softmax_curvature(weights, rows[i : i + 1], labels[i : i + 1]) for i in range(len(rows))]
        k, parts = case["images_per_repetition"], []
        for repetition in range(case["repetitions"]):
            chunk = products[repetition * k : (repetition + 1) * k]
            solution = s_test({"weight": np.array(case["v"])}, chunk, case["damp"], {"weight": case["scale"]})
            parts.append(solution.s["weight"])
        expected = np.array(case["s_test_stochastic"])
        errors.append(np.abs(np.mean(parts, axis=0) - expected).max() / np.abs(expected).max())
    return len(errors), float(max(errors))


def softmax_curvature(weights: dict[str, torch.Tensor], row: torch.Tensor, label: torch.Tensor) -> Product:
    """Return the curvature of one sample's cross entropy."""
    product = curvature(
        lambda w: torch.nn.functional.cross_entropy(row @ w["weight"].T, label, reduction="none"), weights
    )
    return lambda s: {name: part.numpy() for name, part in product({"weight": torch.as_tensor(s["weight"])}).items()}


def csod(tree: dict[str, Any]) -> tuple[int, float]:
    """Return the number of lambdas, and the largest number of images that are in one of two selections only."""
    errors = []
    for case in tree["cases"]:
        vectors = np.array(case["prototypes"], dtype=np.float64)
        rows = np.arange(len(vectors))
        for run in case["runs"]:
            prototypes = Prototypes(rows, np.zeros_like(rows), vectors)
            picked, _ = csod_greedy(prototypes, case["budget"], float(run["lambda"]))
            errors.append(len(set(picked) ^ set(run["selected_set"])))
    return len(errors), float(max(errors))


def tfdp(tree: dict[str, Any]) -> tuple[int, float]:
    """Return instances and largest error of TFDP on TACO, whose file is expected under ALLOOP_DATA."""
    dataset = validate(read_coco(Path(os.environ.get("ALLOOP_DATA", "data")) / TACO), "TACO")
    query = dataclasses.replace(
        make_query(unlabeled=1, labeled=0, count=1),
        unlabeled=tuple(dataset.images),
        sizes={i: (record.width, record.height) for i, record in dataset.images.items()},
        truth=dataset.annotations,
    )
    plain = Tfdp(annotations="true", class_balanced=False).instance_scores(query)
    balanced = Tfdp(annotations="true").instance_scores(query)
    labels = [dataset.category_ids[label] for label in plain.labels]
    rows = sorted(zip(plain.image_ids.tolist(), labels, plain.scores, balanced.scores, strict=True))
    wanted = sorted(tuple(row) for row in tree["instances"]["rows"])
    image_ids = np.array(sorted(dataset.images))
    images = dict(zip(image_ids.tolist(), balanced.summed(image_ids).tolist(), strict=True))
    if [row[:2] for row in rows] != [row[:2] for row in wanted]:
        return len(wanted), float("inf")
    error = np.abs(np.array(rows) - np.array(wanted)).max()
    return len(wanted), max(float(error), *(abs(images[int(i)] - score) for i, score in tree["image_CB"].items()))


def class_weights(tree: dict[str, Any]) -> tuple[int, float]:
    """Return the number of cases, and the largest relative error of the final weights and matrix of the GbR module."""
    errors = []
    for case in tree["cases"]:
        matrix = case["loss_weight"] * gradient_matrix(torch.tensor(case["logits"]), torch.tensor(case["labels"]))
        learned = ClassWeights(
            case["num_classes"], case["warm_up_iter"], lr=case["sgd_lr"], momentum=0.0, weight_decay=0.0
        )
        for _ in range(case["iterations"]):
            learned.update(matrix)
            learned.step()  # plain SGD on the loss itself: the factor of the branch is in the matrix alone
        for tensor, name in ((learned.weights, "final_class_weights"), (learned.matrix, "accumulated_gradient_matrix")):
            expected = torch.tensor(case[name])
            errors.append(float((tensor.detach() - expected).abs().max() / expected.abs().max()))
    return len(tree["cases"]), max(errors)


# file name -> (check, largest error allowed)
KNOWN: dict[str, tuple[Callable[[dict[str, Any]], tuple[int, float]], float]] = {
    "kcenter.json": (k_center, 0.0),
    "isal_stest.json": (influence, 1e-9),
    "csod_graphcut.json": (csod, 0.0),
    "tfdp_taco.json": (tfdp, 1e-9),
    "gbr.json": (class_weights, 1e-5),
}


def main(folder: Path) -> int:
    present = [name for name in KNOWN if (folder / name).is_file()]
    if not present:
        print(f"{folder}: expected some of {', '.join(KNOWN)}, found none", file=sys.stderr)
        return 1
    failed = 0
    for name in present:
        check, allowed = KNOWN[name]
        cases, error = check(json.loads((folder / name).read_text()))
        good = error <= allowed
        failed += not good
        print(f"{name}: {cases} cases, largest error {error:g}, {'ok' if good else 'NOT OK'}")
    return int(failed > 0)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python benchmarks/golden.py DIR")
    sys.exit(main(Path(sys.argv[1])))
