"""Pictures of the images that were bought."""

import base64
import io

import numpy as np
from PIL import Image

from alloop.ledger.store import read_ledger
from alloop.report.gallery import SIDE, galleries
from alloop.results.runs import find_runs


def test_the_gallery_shows_what_was_bought(study):
    runs = find_runs([study[0] / "name=fcos"])
    shown, reason = galleries(runs)
    assert reason == ""
    assert [(g.strategy, g.run) for g in shown] == [("random", "random_seed0"), ("entropy", "entropy_seed0")]
    with read_ledger(runs[0].folder) as ledger:
        selections, labeled = ledger.selections(), ledger.labeled()
    first = [image_id for round_, _, image_id, _, _ in selections if round_ == 0]
    last = [image_id for round_, _, image_id, _, _ in selections if round_ == 1]
    assert [int(p.caption.split(":")[0]) for p in shown[0].first] == first[:6]
    assert [int(p.caption.split(":")[0]) for p in shown[0].last] == last[-6:]
    for picture, image_id in zip(shown[0].first, first, strict=False):
        pixels = Image.open(io.BytesIO(base64.b64decode(picture.uri.partition(",")[2])))
        assert max(pixels.size) == SIDE
        assert f"with {len(labeled[image_id])} box" in picture.text
        yellow = np.asarray(pixels).astype(int)
        marked = ((yellow[..., 0] > 190) & (yellow[..., 1] > 150) & (yellow[..., 2] < 110)).sum()
        assert (marked > 40) == (len(labeled[image_id]) > 0)
