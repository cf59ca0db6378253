"""The embedded set, drawn once for all processes of a study and kept as arrays.

What is read is what would be drawn: the key of an entry holds the parameters and the versions of everything that draws.
"""

from importlib.metadata import version

import msgspec
import numpy as np

from alloop.data.cache_folder import CacheFolder
from alloop.data.cache_lock import one_at_a_time
from alloop.data.data_set import DataSet
from alloop.data.digits import DigitScenes, Part, digit_scenes
from alloop.data.images import ImageSource, MemoryImages
from alloop.data.records import Records
from alloop.data.validation import validate
from alloop.files import sha256_of

_DRAWN_BY = ("digits 1", *((name, version(name)) for name in ("alloop", "numpy", "pillow", "scikit-learn")))
_RECORDS = msgspec.json.Decoder(Records)


def kept_digit_scenes(
    parameters: DigitScenes, part: Part, count: int, kept: CacheFolder | None
) -> tuple[DataSet, ImageSource]:
    """Return the data set and the images of one part; they are taken from `kept`, or drawn and kept there."""
    if kept is None:
        drawn = digit_scenes(parameters, part, count)
        return drawn.dataset, drawn.images
    key = sha256_of(repr((_DRAWN_BY, parameters.model_dump_json(), part, count)).encode())
    with one_at_a_time(kept, "digits"):
        data = kept.get(key)
        if data is None:
            drawn = digit_scenes(parameters, part, count)
            stacked = np.stack([drawn.images.read(image_id) for image_id in drawn.dataset.images])
            kept.put(key, [stacked.data.cast("B"), msgspec.json.encode(drawn.records)])
            return drawn.dataset, drawn.images
    end = count * parameters.size**2 * 3
    records = _RECORDS.decode(data[end:])
    dataset = validate(records, f"digit_scenes/{part}")
    pixels = np.frombuffer(data[:end], dtype=np.uint8).reshape(count, parameters.size, parameters.size, 3)
    return dataset, MemoryImages(dict(zip(dataset.images, pixels, strict=True)), dataset.images)
