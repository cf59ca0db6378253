"""The perceptual hash: the equation, written slowly; copies keep it; the JPEG shortcut hardly changes it."""

import io
from math import cos, pi

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alloop.data.images import decode
from alloop.data.leaks import NEAR
from alloop.data.perceptual_hash import hash_of_pixels, perceptual_hash
from alloop.errors import DataError
from tests.support.photographs import photograph

GOLDEN = ["baec4986ba739494", "705be6a55429f705", "a902dab58a2cfb3c"]


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bits(a, b):
    return (a ^ b).bit_count()


def slow_hash(image):
    """The equation in floating point, one coefficient after the other."""
    gray = np.asarray(image.convert("L").resize((32, 32), Image.Resampling.BOX)).astype(float)
    weights = [[cos(pi * (2 * x + 1) * u / 64) for x in range(32)] for u in range(1, 9)]
    c = [
        sum(gray[y, x] * weights[u][y] * weights[v][x] for y in range(32) for x in range(32))
        for u in range(8)
        for v in range(8)
    ]
    middle = sorted(c)[31:33]
    return sum(int(value > sum(middle) / 2) << (63 - place) for place, value in enumerate(c))


@pytest.mark.parametrize("seed", range(6))
def test_the_hash_is_that_of_the_equation(seed):
    image = photograph(seed)
    assert (
        bits(hash_of_pixels(np.asarray(image)), slow_hash(image)) <= 2
    )  # rounded cosines may turn a pair at the median


@given(st.integers(0, 2**32), st.sampled_from([1, 8, 64, 255]))
def test_floats_give_the_bits_of_exact_arithmetic(seed, step):
    gray = np.random.default_rng(seed).integers(0, 256, (32, 32, 1), dtype=np.uint8) // step * step
    weights = [[round(4096 * cos(pi * (2 * x + 1) * u / 64)) for x in range(32)] for u in range(1, 9)]
    exact = np.array(weights, dtype=object)
    c = (exact @ gray[..., 0].astype(object) @ exact.T).ravel().tolist()
    middle = sum(sorted(c)[31:33])
    expected = sum(int(2 * value > middle) << (63 - place) for place, value in enumerate(c))
    assert hash_of_pixels(np.repeat(gray, 3, axis=2)) == expected


def test_golden_hashes_are_the_same_on_every_machine():
    noise = [np.random.default_rng(seed).integers(0, 256, (32, 32, 1), dtype=np.uint8) for seed in range(3)]
    assert [f"{hash_of_pixels(np.repeat(gray, 3, axis=2)):016x}" for gray in noise] == GOLDEN
    assert hash_of_pixels(np.full((5, 7, 3), 200, dtype=np.uint8)) == 0, "one colour has no structure"


@pytest.mark.parametrize("seed", range(8))
def test_a_copy_that_is_scaled_compressed_or_brightened_looks_alike(seed):
    image = photograph(seed, 400, 300)
    original = hash_of_pixels(np.asarray(image))
    copies = {
        "jpeg 50": perceptual_hash(encoded(image, "JPEG", quality=50), "x"),
        "half size": hash_of_pixels(np.asarray(image.resize((200, 150)))),
        "another aspect": hash_of_pixels(np.asarray(image.resize((150, 150)))),
        "darker": hash_of_pixels((np.asarray(image) * 0.8).astype(np.uint8)),
        "png": perceptual_hash(encoded(image, "PNG"), "x"),
    }
    assert {name: bits(original, copy) for name, copy in copies.items() if bits(original, copy) > NEAR} == {}
    others = [hash_of_pixels(np.asarray(photograph(other))) for other in range(8) if other != seed]
    assert min(bits(original, other) for other in others) > NEAR


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("size", [(40, 30), (64, 48), (1000, 700)])
def test_the_jpeg_shortcut_gives_nearly_the_hash_of_all_pixels(mode, size):
    data = encoded(photograph(3, *size).convert(mode), "JPEG", quality=90)
    assert bits(perceptual_hash(data, "x"), hash_of_pixels(decode(data, "x"))) <= 4


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_hashed_as_displayed(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photograph(5, 320, 200), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))
    difference = bits(perceptual_hash(data, "x"), hash_of_pixels(decode(data, "x")))
    assert difference <= 4  # as stored, seven of them would differ in 26 bits or more


def test_an_image_that_cannot_be_decoded_is_refused():
    whole = encoded(photograph(1, 640, 480), "JPEG", quality=95)
    for data, message in [(b"no image", "x: not an image"), (whole[: len(whole) // 3], "x: the image data is damaged")]:
        with pytest.raises(DataError, match=message):
            perceptual_hash(data, "x")
    with pytest.raises(DataError, match="more than the limit of 100"):
        perceptual_hash(whole, "x", max_pixels=100)
