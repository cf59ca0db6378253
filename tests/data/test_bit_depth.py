"""Images of more than 8 bits come out with contrast, and whole 16 bits as they always did."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from alloop.data.data_set import DataSet
from alloop.data.grouped_annotations import GroupedAnnotations
from alloop.data.images import decode, decoded_with_depth
from alloop.data.summary import image_findings
from alloop.values import ImageId, ImageRecord


def tiff(values, **tags):
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "TIFF", tiffinfo={int(key.strip("_")): value for key, value in tags.items()})
    return buffer.getvalue()


def png(values):
    done, data = cv2.imencode(".png", values)
    assert done
    return data.tobytes()


def ramp(top, kind=np.uint16):
    return np.linspace(0, top, 64).round().astype(kind).reshape(4, 16)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("encode", [png, tiff])
def test_a_gray_image_of_any_depth_uses_the_whole_range(bits, encode):
    values = ramp(2**bits - 1)
    pixels, inferred = decoded_with_depth(encode(values), "x")
    assert inferred == (None if bits == 16 else bits)
    expected = np.floor(values / (2**bits - 1) * 255 + 0.5)
    assert np.abs(pixels[..., 0] - expected).max() <= 1
    assert (pixels.min(), pixels.max()) == (0, 255)


@given(st.integers(2**14, 2**16 - 1), st.integers(0, 2**32 - 1))
def test_whole_16_bits_are_divided_by_257_as_before(top, seed):
    values = np.random.default_rng(seed).integers(0, top + 1, (5, 7)).astype(np.uint16)
    values[0, 0] = top
    before = (values.astype(np.int64) + 128) // 257
    assert np.array_equal(decode(png(values), "x")[..., 0], before)


@given(st.sampled_from([10, 12, 14, 16]), st.integers(0, 2**32 - 1))
def test_the_scale_comes_from_the_depth_and_not_from_the_largest_value(bits, seed):
    """Two images of one depth stay comparable: the same value is the same level in both."""
    chance = np.random.default_rng(seed)
    value, (first, second) = int(chance.integers(2**bits)), chance.integers(2 ** (bits - 1), 2**bits, 2)
    levels = {
        int(decode(png(np.array([[value, top]], dtype=np.uint16)), "x")[0, 0, 0])
        for top in (max(first, 2 ** (bits - 2)), max(second, 2 ** (bits - 2)))
    }
    assert len(levels) == 1


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_colour_of_16_bits_keeps_its_channels_in_order(bits):
    values = np.zeros((4, 16, 3), dtype=np.uint16)
    values[..., 2] = ramp(2**bits - 1)  # red, as OpenCV counts
    values[..., 1] = 2 ** (bits - 1)
    pixels, inferred = decoded_with_depth(png(values), "x")
    assert inferred == bits
    assert pixels[..., 0].max() == 255
    assert np.abs(pixels[..., 1].astype(int) - 128).max() <= 1
    assert pixels[..., 2].max() == 0


@pytest.mark.parametrize("kind", [".png", ".tiff"])
def test_colour_of_whole_16_bits_is_decoded_as_before(kind):
    values = np.random.default_rng(0).integers(0, 2**16, (6, 5, 3)).astype(np.uint16)
    data = cv2.imencode(kind, values)[1].tobytes()
    pixels, inferred = decoded_with_depth(data, "x")
    assert inferred is None
    assert np.array_equal(pixels, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_colour_of_12_bits_in_a_tiff_and_with_alpha():
    values = np.stack([ramp(4095)] * 3, axis=2)
    assert decode(cv2.imencode(".tiff", values)[1].tobytes(), "x").max() == 255
    alpha = np.full((4, 16, 1), 65535, dtype=np.uint16)
    alpha[0] = 0
    pixels, inferred = decoded_with_depth(png(np.concatenate([values, alpha], axis=2)), "x")
    assert inferred == 12
    assert pixels[0].max() == 0, "alpha lies on black"
    assert pixels[1:].max() == 255


@pytest.mark.parametrize(
    ("values", "levels", "inferred"),
    [
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255], None),
        (np.array([[0.0, 100.0, 255.0]], dtype=np.float32), [0, 100, 255], None),
        (np.array([[0.0, 2047.5, 4095.0]], dtype=np.float32), [0, 128, 255], 12),
        (np.array([[0.0, 32767.5, 65535.0]], dtype=np.float32), [0, 128, 255], 16),
        (np.array([[-5.0, 0.25, np.nan, 1.0]], dtype=np.float32), [0, 64, 0, 255], None),
        (np.array([[0.0, 0.5, np.inf, -np.inf]], dtype=np.float32), [0, 128, 255, 0], None),
        (np.array([[0, 128, 255]], dtype=np.int32), [0, 128, 255], 8),
        (np.array([[0, 2048, 4095]], dtype=np.int32), [0, 128, 255], 12),
        (np.array([[-7, 32768, 65535]], dtype=np.int32), [0, 128, 255], 16),
        (np.array([[0, 2**31 - 1]], dtype=np.int32), [0, 127], None),
    ],
)
def test_floats_and_integers_of_32_bits(values, levels, inferred):
    pixels, found = decoded_with_depth(tiff(values), "x")
    assert found == inferred
    assert np.abs(pixels[0, :, 0].astype(int) - levels).max() <= 1


def test_what_a_file_states_is_believed_unless_a_value_is_larger():
    dark = ramp(900)
    assert decoded_with_depth(tiff(dark), "x")[1] == 10
    for tags, top in (({"_281": 4095}, 4095), ({"_281": 65535}, 65535), ({"_281": 255}, 1023)):
        pixels, inferred = decoded_with_depth(tiff(dark, **tags), "x")
        assert inferred is None
        assert pixels.max() == round(900 / top * 255)


def with_sbit(data, bits):
    """Return a PNG with an sBIT chunk after its header."""
    body = bytes([bits])
    chunk = struct.pack(">I", len(body)) + b"sBIT" + body + struct.pack(">I", zlib.crc32(b"sBIT" + body))
    return data[:33] + chunk + data[33:]


def test_the_significant_bits_of_a_png_are_believed():
    data = png(ramp(900))
    assert decode(data, "x").max() == round(900 / 1023 * 255)
    pixels, inferred = decoded_with_depth(with_sbit(data, 12), "x")
    assert (pixels.max(), inferred) == (round(900 / 4095 * 255), None)


def turned(data, orientation):
    """Return a PNG with this EXIF orientation."""
    body = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + struct.pack(">HHI", orientation, 0, 0)
    return (
        data[:33]
        + struct.pack(">I", len(body))
        + b"eXIf"
        + body
        + struct.pack(">I", zlib.crc32(b"eXIf" + body))
        + data[33:]
    )


def tiff_turned(values, orientation):
    """Return a TIFF with this orientation; a tag that OpenCV does not write takes the place of one that it does."""
    data = bytearray(cv2.imencode(".tiff", values, [cv2.IMWRITE_TIFF_COMPRESSION, 1])[1].tobytes())
    with Image.open(io.BytesIO(bytes(data))) as image:
        assert 284 in image.tag_v2, "PlanarConfiguration is written, and 1 is what is read without it"
    place = data.index(struct.pack("<HHI", 284, 3, 1))
    data[place : place + 12] = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
    return bytes(data)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images_are_turned_as_shallow_ones(orientation, channels):
    deep = np.zeros((2, 3, channels), dtype=np.uint16).squeeze()
    deep[0, 0] = 4095
    shallow = (deep // 16).astype(np.uint8)
    for encode in (lambda values: turned(png(values), orientation), lambda values: tiff_turned(values, orientation)):
        assert np.array_equal(decode(encode(deep), "x"), decode(encode(shallow), "x"))
    assert decode(turned(png(deep), 6), "x").shape == (3, 2, 3)


def test_check_data_counts_what_was_inferred(tmp_path):
    images = {}
    for number, top in enumerate((900, 4095, 4000, 65535, 255)):
        (tmp_path / f"{number}.png").write_bytes(png(ramp(top)))
        images[ImageId(number)] = ImageRecord(ImageId(number), f"{number}.png", 16, 4)
    images[ImageId(9)] = ImageRecord(ImageId(9), "gone.png", 16, 4)
    refused, noted = image_findings(DataSet("x", images, GroupedAnnotations.of_mapping({}), (), ()), tmp_path)
    assert refused.startswith("refused")
    assert "4 of 6 images use fewer bits" in noted
    assert "8 bits 1, 10 bits 1, 12 bits 2;" in noted


def test_damaged_deep_images_are_decoded_or_refused():
    from alloop.errors import DataError

    chance, outcomes = np.random.default_rng(3), {True: 0, False: 0}
    colour = np.stack([ramp(4095)] * 3, axis=2)
    originals = [png(ramp(900)), tiff(ramp(900)), png(colour), cv2.imencode(".tiff", colour)[1].tobytes()]
    for _ in range(1500):
        data = bytearray(originals[int(chance.integers(4))])
        for _ in range(int(chance.integers(1, 12))):
            data[int(chance.integers(len(data)))] = int(chance.integers(256))
        try:
            pixels = decode(bytes(data), "m")
        except DataError:
            outcomes[False] += 1
        else:
            assert pixels.dtype == np.uint8
            outcomes[True] += 1
    assert min(outcomes.values()) > 50
