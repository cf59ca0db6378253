"""Advice about another round."""

import numpy as np
import pytest

from alloop.results.stopping import advice, gain_per_1000_boxes


def test_advice_tells_a_plateau_from_a_rise():
    boxes = [200, 400, 600, 800, 1000]
    rising = gain_per_1000_boxes(boxes, [0.1, 0.2, 0.301, 0.4, 0.502])
    assert not rising.levelled_off
    assert rising.slope == pytest.approx(0.5, abs=0.01)
    flat = gain_per_1000_boxes(boxes, [0.1, 0.4, 0.41, 0.395, 0.405])
    assert flat.levelled_off
    slope = np.polyfit(np.array(boxes[1:]) / 1000, [0.4, 0.41, 0.395, 0.405], 1)[0]
    assert flat.slope == pytest.approx(slope), "the last four rounds alone"
    assert gain_per_1000_boxes(boxes[:2], [0.1, 0.2]) is None
    assert "think of stopping" in advice(boxes, [0.1, 0.4, 0.41, 0.395, 0.405], 210, 0.5)
    assert "210 boxes and to cost 105.00" in advice(boxes, [0.1, 0.4, 0.41, 0.395, 0.405], 210, 0.5)
    assert "three rounds are needed" in advice(boxes[:1], [0.1], 210, 1)
