"""One decoder: every kind of image comes out as uint8 RGB as displayed, or is refused by name."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from alloop.data.image_folder import image_path
from alloop.data.images import FolderImages, decode, image_size
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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    image = Image.new("RGB", (30, 20))
    image.paste((255, 0, 0), (0, 0, 10, 10))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(image, "JPEG", exif=exif, quality=95)
    pixels = decode(data, "x")
    assert pixels.shape[:2] == ((30, 20) if orientation >= 5 else (20, 30))
    (tmp_path / "a.jpg").write_bytes(data)
    assert image_size(tmp_path / "a.jpg") == (pixels.shape[1], pixels.shape[0])


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
