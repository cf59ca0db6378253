"""A project as people have it: a config beside its annotation files and images."""

from pathlib import Path

import yaml

from alloop.data.digit_files import export_digit_scenes
from tests.support import small_tree


def write_project(folder: Path, **changes) -> Path:
    """Write images, annotation files and a config with relative paths; return the config."""
    export_digit_scenes(folder / "data", ["pool=12", "reference=3", "test=4", "max_digits=3"])
    data = {
        split: {"annotations": f"data/instances_{name}.json", "images": "data/images"}
        for split, name in (("train", "pool"), ("reference", "reference"), ("test", "test"))
    }
    tree = small_tree(data=data, **{"loop.seed_set": 3, "loop.query_size": 2, "loop.rounds": 2, **changes})
    (folder / "config.yaml").write_text(yaml.safe_dump(tree))
    return folder / "config.yaml"


def images_of(folder: Path, split: str) -> list[Path]:
    """Return the image files of a split."""
    return sorted((folder / "data" / "images" / split).glob("*.png"))
