"""The audit of image files names every file that changed or is gone, in the order of the record."""

import pytest

from alloop.data.threads import BLOCK
from alloop.files import sha256_of
from alloop.ledger.image_audit import changed_images


@pytest.mark.parametrize("wrong", [[], [0], [3, 4, BLOCK, 2 * BLOCK + 1], [*range(2 * BLOCK + 2)]])
def test_every_changed_image_is_named_in_order(tmp_path, wrong):
    recorded = []
    for row in range(2 * BLOCK + 2):
        (tmp_path / f"{row}.png").write_bytes(b"an image")
        recorded.append((row, f"{row}.png", sha256_of(b"an image")))
    for row in wrong:
        if row % 2:
            (tmp_path / f"{row}.png").unlink()
        else:
            (tmp_path / f"{row}.png").write_bytes(b"another")
    found = changed_images(tmp_path, recorded)
    assert len(found) == len(wrong)
    for row, text in zip(wrong, found, strict=True):
        assert f"{row}.png: image {row} {'was there' if row % 2 else 'changed'}" in text
