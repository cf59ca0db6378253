"""What several test files share."""

from alloop.config.tables import DETECTORS
from alloop.plugins import parameter_names, plugin_class


def small_tree(**changes):
    """Return the config tree of a run that takes seconds, with some dotted keys changed."""
    tree = {
        "data": {"digit_scenes": {"pool": 24, "reference": 4, "test": 8, "max_digits": 3}},
        "detector": {
            "name": "fcos",
            "backbone": "tiny",
            "weights": "digits",
            "channels": 64,
            "tower_convs": 1,
            "short_side": 64,
            "long_side": 64,
            "max_detections": 10,
            "proposals": 50,
            "sampled_regions": 16,
            "head_width": 32,
            "anchor_size": 12,
        },
        "training": {
            "optimizer": "adamw",
            "lr": 0.002,
            "batch_size": 4,
            "iterations": 4,
            "schedule": "cosine",
            "ema": 0.9,
            "threads": 1,
            "device": "cpu",
        },
        "loop": {"seed_set": 6, "query_size": 4, "rounds": 3},
        "strategy": {"name": "entropy"},
        "random_seed": 0,
    }
    for key, value in changes.items():
        node = tree
        *parents, last = key.split(".")
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    if tree["detector"]["name"] in DETECTORS:  # the keys above are those of several detectors
        own = {"name", *parameter_names(plugin_class("detector", tree["detector"]["name"], DETECTORS))}
        others = tree["detector"].keys() - own - {key.removeprefix("detector.") for key in changes}
        tree["detector"] = {key: value for key, value in tree["detector"].items() if key not in others}
    return tree
