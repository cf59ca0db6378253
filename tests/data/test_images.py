"""One decoder: every kind of image comes out as uint8 RGB as displayed, or is refused by name."""

import io
import itertools
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from alloop.data.image_folder import image_path
from alloop.data.images import FolderImages, decode, decoded_at, image_size
from alloop.data.pixels import resized
from alloop.errors import DamagedFileError, DataError
from alloop.values import ImageRecord


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(mode):
    return Image.fromarray(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (16, 1))).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "LA", "RGBA", "1"])
def test_modes(mode):
    pixels = decode(encoded(gradient(mode)), "x")
    assert pixels.shape == (16, 24, 3)
    assert pixels.dtype == np.uint8
    assert pixels[0, -1].min() > 200
    assert pixels[0, 0].max() < 30


def test_cmyk_jpeg():
    pixels = decode(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), "x")
    assert pixels[0, 0, 0] > 200
    assert pixels[0, 0, 1] < 60


def test_sixteen_bit_is_scaled_not_cut():
    wide = np.linspace(0, 65535, 256).astype(np.uint16).reshape(1, 256)
    pixels = decode(encoded(Image.fromarray(wide)), "x")
    assert len(np.unique(pixels[..., 0])) == 256
    assert pixels[0, 128, 0] == 128


def test_alpha_lies_on_black():
    pixels = decode(encoded(Image.new("RGBA", (4, 4), (255, 255, 255, 0))), "x")
    assert pixels.max() == 0


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP", "MPO"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation, kind):
    image = Image.new("RGB", (30, 20))
    image.paste((255, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, kind, exif=exif)
    pixels = decode(data, "x")
    assert pixels.shape[:2] == ((30, 20) if orientation >= 5 else (20, 30))
    (tmp_path / "a").write_bytes(data)
    assert image_size(tmp_path / "a") == (pixels.shape[1], pixels.shape[0])


def png_header(width, height):
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IEND", b"")
    )


def test_a_bomb_is_refused_from_its_header():
    with pytest.raises(DataError, match=r"bomb\.png.*900000000"):
        decode(png_header(30000, 30000), "bomb.png")


def test_truncated_files_are_refused_by_name():
    data = encoded(gradient("RGB"))
    with pytest.raises(DataError, match=r"cut\.png"):
        decode(data[: len(data) // 2], "cut.png")


def test_thousands_of_damaged_files_are_decoded_or_refused():
    chance = random.Random(0)
    outcomes = {True: 0, False: 0}
    originals = [
        encoded(gradient("RGB")),
        encoded(gradient("RGB"), "JPEG"),
        encoded(gradient("L"), "BMP"),
        encoded(gradient("P"), "GIF"),
    ]
    for _ in range(2000):
        data = bytearray(chance.choice(originals))
        for _ in range(chance.randint(1, 16)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        try:
            pixels = decode(bytes(data), "m")
        except DataError:
            outcomes[False] += 1
        else:
            assert pixels.dtype == np.uint8
            assert pixels.shape[2] == 3
            outcomes[True] += 1
    assert min(outcomes.values()) > 100


def folder(tmp_path, width=24, height=16):
    (tmp_path / "a.png").write_bytes(encoded(gradient("RGB")))
    return FolderImages(tmp_path, {1: ImageRecord(1, "a.png", width, height), 2: ImageRecord(2, "gone.png", 5, 5)})


def test_a_size_that_differs_from_the_record_is_refused(tmp_path):
    with pytest.raises(DataError, match="declared 25 x 16, but shows 24 x 16"):
        folder(tmp_path, width=25).read(1)


def test_a_missing_file_and_a_changed_one_are_named(tmp_path):
    source = folder(tmp_path)
    with pytest.raises(DataError, match=r"gone\.png"):
        source.read(2)
    source.expected = {1: source.sha256(1)}
    assert source.read(1).shape == (16, 24, 3)
    (tmp_path / "a.png").write_bytes(encoded(gradient("L")))
    with pytest.raises(DamagedFileError, match="image 1 changed"):
        source.read(1)


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x.png", "a\\..\\x.png", "a\0.png", "link/x.png"])
def test_file_names_cannot_leave_the_image_folder(tmp_path, name):
    root = tmp_path / "images"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    with pytest.raises(DataError, match="file_name"):
        image_path(root, name)
    assert image_path(root, "sub/ok.png") == (root / "sub" / "ok.png").resolve()


def every_kind():
    """A small image of every kind that is read, by name."""
    chance = np.random.default_rng(0)
    noise = Image.fromarray(chance.integers(0, 256, (33, 47, 3), dtype=np.uint8))
    deep = Image.fromarray(chance.integers(0, 65536, (33, 47), dtype=np.uint16))
    kinds = [("RGB", "PNG"), ("RGB", "JPEG"), ("RGB", "WEBP"), ("RGB", "TIFF"), ("L", "JPEG"), ("L", "PNG")]
    kinds += [("CMYK", "JPEG"), ("CMYK", "TIFF"), ("P", "PNG"), ("P", "GIF"), ("RGBA", "PNG"), ("LA", "PNG")]
    kinds += [("1", "PNG"), ("RGB", "BMP"), ("YCbCr", "JPEG")]
    images = {f"{mode} {kind}": encoded(noise.convert(mode), kind) for mode, kind in kinds}
    images |= {"16 bits PNG": encoded(deep), "16 bits TIFF": encoded(deep, "TIFF")}
    images["progressive"] = encoded(noise, "JPEG", progressive=True)
    images["transparent palette"] = encoded(noise.convert("P"), transparency=0)
    for orientation, kind in itertools.product(range(1, 9), ("JPEG", "PNG", "TIFF")):
        exif = Image.Exif()
        exif[0x0112] = orientation
        images[f"{kind} turned {orientation}"] = encoded(noise, kind, exif=exif)
    return images


@pytest.mark.parametrize("kind", every_kind())
@pytest.mark.parametrize("size", [(20, 30), (47, 33), (64, 99)])
def test_a_small_image_of_any_kind_is_decoded_whole_and_then_resized(kind, size):
    data = every_kind()[kind]
    pixels, whole = decoded_at(data, "x", size, reduced=True)
    decoded = decode(data, "x")
    assert whole == (decoded.shape[1], decoded.shape[0])
    np.testing.assert_array_equal(pixels, resized(decoded, *size))


def large(mode="RGB", kind="JPEG", width=1800, height=1200, orientation=None, **options):
    """A file of more than 2 megapixels with coarse and fine detail."""
    chance = np.random.default_rng(1)
    parts = [Image.fromarray(chance.integers(0, 256, (n, n, 3), dtype=np.uint8)) for n in (7, 60, 500)]
    layers = [np.asarray(part.resize((width, height), Image.Resampling.BICUBIC), dtype=np.float32) for part in parts]
    image = Image.fromarray((0.6 * layers[0] + 0.3 * layers[1] + 0.1 * layers[2]).astype(np.uint8)).convert(mode)
    if orientation:
        options["exif"] = Image.Exif()
        options["exif"][0x0112] = orientation
    return encoded(image, kind, quality=92, **options)


@pytest.mark.parametrize("options", [{}, {"mode": "L"}, {"mode": "CMYK"}, {"progressive": True}, {"subsampling": 0}])
@pytest.mark.parametrize("size", [(600, 400), (300, 200), (97, 31)])
def test_a_large_jpeg_at_a_reduced_size_looks_as_if_it_was_decoded_whole(options, size):
    data = large(**options)
    pixels, whole = decoded_at(data, "x", size, reduced=True)
    exact = decoded_at(data, "x", size, reduced=False)[0]
    assert whole == (1800, 1200)
    difference = np.abs(pixels.astype(int) - exact.astype(int))
    assert 0 < difference.max() <= 8
    assert difference.mean() < 1
    np.testing.assert_array_equal(exact, resized(decode(data, "x"), *size))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("width", "height"), [(1801, 1203), (1203, 1801)])
def test_a_large_jpeg_is_reduced_and_turned(orientation, width, height):
    """The target is that of the image as displayed, so a scale chosen for the stored one would be too small."""
    data = large(width=width, height=height, orientation=orientation)
    shown = (height, width) if orientation >= 5 else (width, height)
    size = (round(shown[0] / 3.1), round(shown[1] / 3.1))
    pixels, whole = decoded_at(data, "x", size, reduced=True)
    assert whole == shown
    difference = np.abs(pixels.astype(int) - resized(decode(data, "x"), *size).astype(int))
    assert difference.mean() < 1
    assert 0 < difference.max() <= 8, "it is reduced, and looks the same"


@pytest.mark.parametrize(
    ("width", "height", "size", "reduced"),
    [
        (1800, 1200, (600, 400), True),  # half is 900 x 600, just 1.5 times as large
        (1800, 1200, (601, 400), False),
        (1800, 1200, (600, 401), False),
        (1800, 1200, (100, 400), True),
        (1700, 1150, (50, 50), False),  # not 2 megapixels
    ],
)
def test_only_a_jpeg_that_is_large_enough_is_reduced(width, height, size, reduced):
    data = large(width=width, height=height)
    pixels = decoded_at(data, "x", size, reduced=True)[0]
    assert np.array_equal(pixels, resized(decode(data, "x"), *size)) == (not reduced)
    png = encoded(Image.open(io.BytesIO(data)))
    np.testing.assert_array_equal(decoded_at(png, "x", size, reduced=True)[0], resized(decode(png, "x"), *size))


def test_a_large_jpeg_that_is_cut_short_or_declared_otherwise_is_refused(tmp_path):
    data = large()
    with pytest.raises(DataError, match="cut: the image data is damaged or cut short"):
        decoded_at(data[: len(data) // 2], "cut", (90, 60), reduced=True)
    (tmp_path / "a.jpg").write_bytes(data)
    source = FolderImages(tmp_path, {1: ImageRecord(1, "a.jpg", 900, 600)})
    with pytest.raises(DataError, match="declared 900 x 600, but shows 1800 x 1200"):
        source.decode_at(1, data, (90, 60), reduced=True)


def test_warnings_of_pillow_are_silent_and_those_of_others_are_not():
    data = bytearray(encoded(gradient("RGB"), "TIFF"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        decode(encoded(gradient("P"), transparency=bytes(range(200))), "x")
        warnings.simplefilter("error")
        with pytest.raises(DataError):
            decode(bytes(data[:100]), "x")
        with pytest.raises(UserWarning, match="other"):
            warnings.warn("other", stacklevel=1)
