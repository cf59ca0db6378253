"""Entropy of the classes that CSOD buys in rounds, against random, over query sizes.

    ALLOOP_DATA=... TORCH_HOME=... python benchmarks/class_entropy.py [CONFIG ...]

By default on Aquarium (7 classes) and the long-tailed digits (10 classes). The features are those of a detector that
was trained on 40 images; classes and boxes are the true ones. Six rounds from seed sets of ten random images, twenty
seeds. The entropy is that of the boxes bought after the seed set, in nats, and the interval is Student's over seeds.
"""

import sys

import numpy as np
from setting import trained

from alloop.data.data_set import DataSet
from alloop.results.statistics import t_interval
from alloop.values import ImageId
from strategies.csod import Csod, csod_greedy

QUERY_SIZES = (5, 10, 20, 40)
ROUNDS, SEED_SET, SEEDS = 6, 10, 20


def entropy(dataset: DataSet, image_ids: list[ImageId]) -> float:
    """Return the entropy of the classes of all boxes of some images."""
    labels = np.concatenate([dataset.annotations[image_id].labels for image_id in image_ids])
    shares = np.bincount(labels) / len(labels)
    return float(-(shares[shares > 0] * np.log(shares[shares > 0])).sum())


def compare(config: str) -> None:
    experiment, query, _ = trained(config)
    dataset = experiment.splits.train.dataset
    image_ids = sorted(dataset.images)
    strategy = Csod(annotations="true")
    prototypes = strategy.prototypes(query, image_ids, dict(dataset.annotations))
    classes, whole = len(dataset.class_names), entropy(dataset, image_ids)
    print(f"{config}: {len(image_ids)} images, {classes} classes, entropy {whole:.3f} in all", flush=True)
    for query_size in QUERY_SIZES:
        csod, random = [], []
        for seed in range(SEEDS):
            order = np.random.default_rng(seed).permutation(len(image_ids)).tolist()
            chosen = order[:SEED_SET]
            for _ in range(ROUNDS):
                weights = strategy.lambdas(len(chosen) + query_size, prototypes)
                chosen += csod_greedy(prototypes, query_size, weights, chosen=chosen)[0]
            csod.append(entropy(dataset, [image_ids[row] for row in chosen[SEED_SET:]]))
            random.append(entropy(dataset, [image_ids[row] for row in order[SEED_SET : len(chosen)]]))
        gaps = [a - b for a, b in zip(csod, random, strict=True)]
        interval, _ = t_interval(gaps)
        assert interval is not None
        print(
            f"{query_size:3} images a round: csod {np.mean(csod):.3f}, random {np.mean(random):.3f}, "
            f"difference {np.mean(gaps):+.3f} ({interval[0]:+.3f} to {interval[1]:+.3f})"
        )


if __name__ == "__main__":
    for name in sys.argv[1:] or ["aquarium_faster_rcnn", "digits_long_tailed"]:
        compare(name)
