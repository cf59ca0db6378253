"""Smooth random pictures that survive a JPEG, unlike noise, and files of them with a COCO file."""

import json

import numpy as np
from PIL import Image


def photograph(seed, width=160, height=120):
    """A picture of a few coarse random patches; different seeds look different."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def data_set(folder, pictures, first_id=1, **image_fields):
    """Write pictures by file name as PNG or JPEG, and `a.json` about them; return its path."""
    rows = []
    for image_id, (name, picture) in enumerate(pictures.items(), start=first_id):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(picture, bytes):
            path.write_bytes(picture)
            size = (160, 120)
        else:
            picture.save(path)
            size = picture.size
        row = {"id": image_id, "file_name": name, "width": size[0], "height": size[1]}
        rows.append(row | {key: value(name) for key, value in image_fields.items()})
    tree = {"images": rows, "annotations": [], "categories": [{"id": 1, "name": "thing"}]}
    (folder / "a.json").write_text(json.dumps(tree))
    return folder / "a.json"
