"""Influence: is it correct on a trained detector, is it fast, and what does it choose?

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/influence.py [right] [speed] [stability] [chooses] [CONFIG ...]

Detectors are those of configs/demo.yaml and configs/bccd_*.yaml, all or the named ones, trained here on
40 images. Every ratio has its peer or its floor measured in the same run.
"""

import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from setting import trained
from speed import best, line

from alloop.detectors import last_layers as derivatives
from alloop.detectors.fitted_derivatives import pseudo_target, sampling_seed
from alloop.detectors.seeding import seeded
from alloop.detectors.transfer import to_tensors
from alloop.loop.pool import seed_set_order
from alloop.query import Query
from alloop.strategy import make_strategy
from alloop.values import Annotations, ImageId
from strategies import TABLE
from strategies.influence import Influence
from strategies.inverse_hessian import dot, norm

NAMES = ("demo", "bccd_fcos", "bccd_faster_rcnn")


def right(name: str) -> None:
    """Compare curvature with finite differences, and predicted influence with the change of the reference loss."""
    _, query, _ = trained(name)
    curvature_by_layer(name, query)
    ids = sorted(query.labeled)
    more = seed_set_order(query.unlabeled, 1)[: 50 - len(ids)]
    predicted_and_measured(name, query, [*ids, *more])


def curvature_by_layer(name: str, query: Query) -> None:
    """Compare H v of each layer with central differences of the gradient, in float64."""
    fitted: Any = query.detector
    image_id = min(query.labeled)
    module = fitted.detector.module.double()
    image = to_tensors([fitted._cache.read(image_id)], torch.device("cpu"))[0].double()
    target = fitted._target(image_id, query.labeled[image_id])
    target["boxes"] = target["boxes"].double()
    loss = fitted.detector.cached_features([image]).losses([target], [sampling_seed(image_id)])
    weights = {n: module.get_parameter(n).detach() for n in fitted.last_layers}
    generator = torch.Generator().manual_seed(0)
    for layer, weight in weights.items():
        vector = {n: torch.zeros_like(w) for n, w in weights.items()}
        vector[layer] = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        exact = derivatives.curvature(loss, weights)(vector)[layer]
        forward = derivatives.curvature_product(loss, weights, vector)[layer]
        step = 1e-6
        up, down = (
            derivatives.gradient(loss, {n: w + sign * step * vector[n] for n, w in weights.items()})[layer]
            for sign in (1, -1)
        )
        differences = (up - down) / (2 * step)
        error = float((exact - differences).norm() / differences.norm().clamp(min=1e-30))
        modes = float((exact - forward).norm() / forward.norm().clamp(min=1e-30))
        print(f"{name} curvature of {layer}: off finite differences by {error:.1e}, forward mode by {modes:.1e}")
    fitted.detector.module.float()


def predicted_and_measured(name: str, query: Query, ids: list[ImageId]) -> None:
    """Correlate (Spearman) -s_test . G_z with the change of the mean reference loss after five small steps on z."""
    fitted: Any = query.detector
    beside: Any = query.reference_detector
    truth: Mapping[ImageId, Annotations] = {**_truths(name), **query.labeled}
    weights = fitted._weights()
    reference = [
        beside._losses(beside._cached(images), batch, query.reference)
        for batch, images in beside._batches("reference", sorted(query.reference))
    ]

    def reference_loss(at: Mapping[str, torch.Tensor]) -> float:
        with torch.no_grad():
            return sum(float(part(at).double().sum()) for part in reference) / len(query.reference)

    before = reference_loss(weights)
    gradients = [fitted.loss_gradient([i], truth) for i in ids]
    rate = 1e-3 / float(np.mean([norm(g) for g in gradients]))  # five steps of a thousandth of the weights' unit
    measured = []
    for image_id in ids:
        frozen = fitted._cached([to_tensors([fitted._cache.read(image_id)], torch.device("cpu"))[0]])
        loss, at = fitted._losses(frozen, [image_id], truth), dict(weights)
        for _ in range(5):
            slope = derivatives.gradient(loss, at)
            at = {n: w - rate * slope[n] for n, w in at.items()}
        measured.append(reference_loss(at) - before)
    for label, strategy in (
        ("exact", Influence()),
        ("exact, damping 0.1", Influence(damping=0.1)),
        ("released", Influence(rescale="released")),
    ):
        v = strategy.reference_gradient(query)
        solution, notes = strategy.solve(query, v)
        predicted = [-dot(solution.s, g) for g in gradients]
        plain = [-dot(v, g) for g in gradients]
        print(
            f"{name} {label}: Spearman of predicted and measured {spearmanr(predicted, measured)[0]:.3f} "
            f"(without curvature {spearmanr(plain, measured)[0]:.3f}); {len(ids)} images, scale {notes['scale']:.4g}, "
            f"growth {notes['s_test_growth']:.3g}, agreement of repetitions {notes['s_test_agreement']:.4f}"
        )


def _truths(name: str) -> dict[ImageId, Annotations]:
    return trained(name)[0].splits.train.dataset.annotations


def speed(name: str) -> None:
    """Time scoring against plain inference and one backward pass per image, and s_test against a round."""
    _, query, train_seconds = trained(name)
    strategy, fitted = Influence(), query.detector
    v, reference_seconds = timed(lambda: strategy.reference_gradient(query))
    (solution, notes), solve_seconds = timed(lambda: strategy.solve(query, v))
    scoring_seconds = scoring(name, fitted, sorted(query.unlabeled)[:48], solution.s)
    fresh: Any = fitted
    fresh._kept.clear()
    _, longer = timed(lambda: Influence(rescale="released", images=1000).solve(query, v))
    round_seconds = train_seconds + reference_seconds + solve_seconds + scoring_seconds * len(query.unlabeled)
    print(
        f"{name} s_test: k 500, p 4: {solve_seconds:.1f} s, {solve_seconds / round_seconds:.0%} of a round of "
        f"{round_seconds:.0f} s (training {train_seconds:.0f} s, reference gradient {reference_seconds:.1f} s); "
        f"k 1000, p 4, given scales: {longer:.1f} s; last update {notes['s_test_update']:.1e}"
    )
    products(name, query, solution.s)
    ids = sorted(query.unlabeled)
    few, many = (
        peak_mib(lambda count=count: fitted.pseudo_label_slopes(ids[:count], solution.s, 0.1, "hard"))
        for count in (48, 144)
    )
    text = f"peak {few:.0f} MiB over 48 images, {many:.0f} MiB over 144"
    line(f"{name} memory", text, many / few, "<= 1.1", met=many <= 1.1 * few)


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and the seconds that it took."""
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def scoring(name: str, fitted: Any, ids: list[ImageId], direction: Any) -> float:
    """Return the seconds to score one image, including the inference for its pseudo-labels."""
    ours, plain, last, whole = best(
        lambda: fitted.pseudo_label_slopes(ids, direction, 0.1, "hard"),
        lambda: fitted.detections(ids),
        lambda: one_backward_per_image(fitted, ids, direction, whole=False),
        lambda: one_backward_per_image(fitted, ids, direction, whole=True),
    )
    ours, plain, last, whole = (1e3 * seconds / len(ids) for seconds in (ours, plain, last, whole))
    line(
        f"{name} scoring",
        f"{ours:.1f} ms per image, inference {plain:.1f}",
        plain / ours,
        ">= 0.5",
        met=plain >= ours / 2,
    )
    for what, peer in (("", whole), (" to the last layers alone", last)):
        text = f"{ours:.1f} ms per image, inference and a backward pass per image{what} {peer:.1f}"
        line(f"{name} scoring", text, peer / ours, ">= 3", met=peer >= 3 * ours)
        ours_beyond, peer_beyond = max(ours - plain, 1e-9), peer - plain
        text = f"{ours_beyond:.1f} ms per image beyond inference, a backward pass per image{what} {peer_beyond:.1f}"
        line(f"{name} scoring", text, peer_beyond / ours_beyond, ">= 3", met=peer_beyond >= 3 * ours_beyond)
    return ours / 1e3


def products(name: str, query: Query, vector: Any) -> None:
    """Time one curvature product from a kept graph, and by forward mode over reverse mode from the same features."""
    fitted: Any = query.detector
    image_id = min(query.labeled)
    frozen = fitted._cached([to_tensors([fitted._cache.read(image_id)], torch.device("cpu"))[0]])
    loss, weights, tangent = (
        fitted._losses(frozen, [image_id], query.labeled),
        fitted._weights(),
        fitted._tensors(vector),
    )
    kept = derivatives.curvature(loss, weights)
    again, once, forward = best(
        lambda: kept(tangent),
        lambda: derivatives.curvature(loss, weights)(tangent),
        lambda: derivatives.curvature_product(loss, weights, tangent),
        repetitions=10,
    )
    print(
        f"{name} curvature product: {1e3 * again:.1f} ms from a kept graph, {1e3 * once:.1f} ms with making it, "
        f"{1e3 * forward:.1f} ms forward over reverse; ratio {forward / again:.1f}"
    )


def one_backward_per_image(fitted: Any, ids: list[ImageId], direction: Any, *, whole: bool) -> list[float]:
    """Score as the released code does: detect, then take the gradient of the loss under the detections, image by image.

    `whole` goes back through everything that trains, otherwise to the last layers alone.
    """
    detector, tangent = fitted.detector, fitted._tensors(direction)
    names = list(fitted.last_layers)
    parameters = [detector.module.get_parameter(n) for n in names]
    slopes = []
    for batch, images in fitted._batches("peer", ids):
        results = detector.detect(images)
        for image_id, image, result in zip(batch, images, results, strict=True):
            target = pseudo_target(result, 0.1, "hard")
            detector.module.train()
            for layer in detector.module.modules():
                if isinstance(layer, torch.nn.BatchNorm2d):
                    layer.eval()
            with seeded(sampling_seed(image_id)):
                loss = torch.stack([term.sum() for term in detector.losses([image], [target]).values()]).sum()
            if whole:
                detector.module.zero_grad()
                loss.backward()
                gradient = [p.grad for p in parameters]
            else:
                gradient = torch.autograd.grad(loss, parameters)
            slopes.append(sum(float((g * tangent[n]).sum()) for g, n in zip(gradient, names, strict=True)))
    detector.module.zero_grad()
    return slopes


def peak_mib(function: Callable[[], object]) -> float:
    """Return the peak resident memory in MiB while a function runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")
    function()
    text = Path("/proc/self/status").read_text()
    return int(text.split("VmHWM:")[1].split()[0]) / 1024


def stability(name: str) -> None:
    """Time localization stability at N noise levels against N + 1 plain inference passes."""
    _, query, _ = trained(name)
    few = Query(
        round=0,
        unlabeled=tuple(sorted(query.unlabeled)[:32]),
        labeled=query.labeled,
        detector=query.detector,
        count=4,
        random_seed=0,
    )
    strategy = make_strategy("localization_stability", {}, TABLE)
    ids = sorted(few.unlabeled)
    ours, plain = best(lambda: strategy.select(few), lambda: query.detector.detections(ids))
    ratio = ours / (7 * plain)
    line(
        f"{name} stability",
        f"6 noise levels {ours:.1f} s, one pass {plain:.2f} s",
        ratio,
        "<= 1.1",
        met=ratio <= 1.1,
    )


def chooses(name: str) -> None:
    """Print the boxes per image among the first 20 choices of each method after one training."""
    methods: dict[str, tuple[str, dict[str, Any]]] = {
        "influence": ("influence", {}),
        "influence, released scales": ("influence", {"rescale": "released"}),
        "influence, posterior": ("influence", {"pseudo_labels": "posterior"}),
        "influence per box": ("influence", {"per_box": True}),
        "learning_loss": ("learning_loss", {}),
        "k_center": ("k_center", {}),
        "entropy": ("entropy", {}),
        "localization_stability": ("localization_stability", {}),
        "localization_stability, LS+C": ("localization_stability", {"with_confidence": True}),
    }
    if "rcnn" in name:
        methods["localization_tightness"] = ("localization_tightness", {})
    for data in [None] if name == "demo" else ["bccd", "aquarium"]:
        experiment, query, _ = trained(name, data)
        truth = experiment.splits.train.dataset.annotations
        mean = np.mean([len(truth[i]) for i in query.unlabeled])
        print(f"{data or 'digit scenes'}, {experiment.config.detector.name}: {mean:.2f} boxes per image in the pool")
        for label, (method, parameters) in methods.items():
            chosen = make_strategy(method, parameters, TABLE).select(query).image_ids
            print(f"  {label}: {np.mean([len(truth[i]) for i in chosen]):.2f}", flush=True)


PARTS = {"right": right, "speed": speed, "stability": stability, "chooses": chooses}


def main(arguments: list[str]) -> None:
    unknown = set(arguments) - {*PARTS, *NAMES}
    if unknown:
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; parts are {', '.join(PARTS)}; configs are {', '.join(NAMES)}")
    for name in [a for a in arguments if a in NAMES] or NAMES:
        for part in [a for a in arguments if a in PARTS] or PARTS:
            PARTS[part](name)


if __name__ == "__main__":
    main(sys.argv[1:])
