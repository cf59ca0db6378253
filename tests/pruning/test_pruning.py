"""Pruning and TFDP: outlines against their definition, files against their bytes, hostile masks."""

import csv
import dataclasses
import gzip
import json
import math
import subprocess
import sys
from itertools import pairwise

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from alloop.cli.app import app
from alloop.data.formats.coco import read_coco
from alloop.data.validation import validate
from alloop.errors import ConfigError, DataError, StrategyError
from alloop.geometry.masks import decode_mask, decode_patch, encode_mask
from alloop.pruning.subset import Balance, count_of, prune
from alloop.pruning.subset_json import subset_json
from alloop.results.class_balance import class_divergence, class_entropy
from alloop.strategy import make_strategy
from alloop.testing import make_query
from strategies import TABLE
from strategies.random import Random
from strategies.tfdp import Tfdp, class_balanced, outline, scale_invariant, shape_complexity


def polygon(points):
    return json.dumps([[float(number) for point in points for number in point]]).encode()


def of_mask(mask, primary="largest"):
    height, width = mask.shape
    return outline(encode_mask(mask.astype(np.uint8)), width, height, primary)


def traced(mask):
    """(start, perimeter, area) of every outer contour, by following the border pixel by pixel; no OpenCV."""
    mask = np.pad(mask, 1)
    clockwise = [(0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1)]  # from West; (row, column)
    outside = flooded(mask)
    seen, found = np.zeros_like(mask), []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        component = grown(mask, start)
        seen |= component
        if not (outside & cv_dilate(component)).any():
            continue  # it lies in a hole of another one
        found.append((start, *followed(component, start, clockwise)))
    return found


def flooded(mask):
    """Background that the edge of the canvas reaches, in four directions."""
    outside = np.zeros_like(mask)
    stack = [(0, 0)]
    while stack:
        row, column = stack.pop()
        if (
            (0 <= row < mask.shape[0] and 0 <= column < mask.shape[1])
            and not mask[row, column]
            and not outside[row, column]
        ):
            outside[row, column] = 1
            stack += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return outside


def cv_dilate(mask):
    return cv2.dilate(mask, np.ones((3, 3), np.uint8))


def grown(mask, start):
    """The 8-connected component of a pixel."""
    component, stack = np.zeros_like(mask), [start]
    while stack:
        row, column = stack.pop()
        if mask[row, column] and not component[row, column]:
            component[row, column] = 1
            stack += [(row + a, column + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    return component


def followed(component, start, clockwise):
    at = lambda place, step: (place[0] + step[0], place[1] + step[1])  # noqa: E731
    first = next((k for k in range(8) if component[at(start, clockwise[k])]), None)
    if first is None:
        return 0.0, 0.0
    contour, current, previous = [], start, first
    while True:
        for turn in range(1, 9):
            direction = (previous - turn) % 8
            nxt = at(current, clockwise[direction])
            if component[nxt]:
                break
        contour.append(current)
        if nxt == start and current == at(start, clockwise[first]):
            break
        previous, current = (direction + 4) % 8, nxt
    closed = [*contour, contour[0]]
    perimeter = sum(math.dist(a, b) for a, b in pairwise(closed))
    area = abs(sum(a[1] * b[0] - b[1] * a[0] for a, b in pairwise(closed))) / 2
    return perimeter, area


def plainly(segmentation, width, height):
    """The recipe as published: the whole canvas, every contour, the largest first."""
    canvas = np.zeros((height, width), dtype=np.uint8)
    for points in json.loads(segmentation):
        cv2.fillPoly(canvas, [np.array(points).reshape(-1, 2).astype(np.int32)], 1)
    contours, _ = cv2.findContours(canvas, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    if not contours:
        return 0.0, 0.0
    largest = max(contours, key=cv2.contourArea)
    return cv2.arcLength(largest, closed=True), cv2.contourArea(largest)


coordinates = st.floats(-30, 70, width=32)
rings = st.lists(st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=9), min_size=1, max_size=3)


@settings(max_examples=300)
@given(rings, st.integers(1, 50), st.integers(1, 50))
def test_only_the_part_that_a_polygon_reaches_is_drawn_and_nothing_changes(polygons, width, height):
    text = json.dumps([[number for point in ring for number in point] for ring in polygons]).encode()
    assert outline(text, width, height) == plainly(text, width, height)


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14), st.integers(1, 14), st.floats(0.2, 0.9))
def test_outlines_equal_a_border_followed_by_hand(seed, height, width, density):
    mask = (np.random.default_rng(seed).random((height, width)) < density).astype(np.uint8)
    found = traced(mask)
    expected = max(found, key=lambda item: item[2])[1:] if found else (0.0, 0.0)
    largest = [item[1:] for item in found if item[2] == expected[1]]  # equal areas may have different perimeters
    perimeter, area = of_mask(mask)
    assert area == expected[1]
    assert any(perimeter == pytest.approx(p, rel=1e-6) for p, _ in largest or [expected])
    if found:
        lowest = max(found, key=lambda item: item[0])  # contours come in reverse raster order
        assert of_mask(mask, "first") == pytest.approx(lowest[1:], rel=1e-6)


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.integers(1, 20))
def test_masks_survive_being_written_as_run_lengths(seed, height, width):
    mask = (np.random.default_rng(seed).random((height, width)) < 0.5).astype(np.uint8)
    assert np.array_equal(decode_mask(encode_mask(mask), width, height, "mask"), mask)
    patch = decode_patch(encode_mask(mask), width, height, "mask")
    assert patch.mask.sum() == mask.sum()
    assert patch.mask.size == 0 or (patch.mask.any(axis=0)[[0, -1]].all() and patch.mask.any(axis=1)[[0, -1]].all())


@pytest.mark.parametrize("side", [2, 5, 40, 333])
def test_a_square_scores_two_over_root_pi_at_every_size(side):
    perimeter, area = of_mask(np.pad(np.ones((side, side)), 3))
    assert (perimeter, area) == (4 * (side - 1), (side - 1) ** 2)
    assert scale_invariant(perimeter, area) == pytest.approx(2 / math.sqrt(math.pi), abs=1e-12)


@pytest.mark.parametrize(
    ("radius", "score"), [(5, 1.145), (10, 1.096), (20, 1.074), (50, 1.060), (100, 1.058), (300, 1.056)]
)
def test_raster_discs_score_as_published(radius, score):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    assert scale_invariant(*of_mask(x**2 + y**2 <= radius**2)) == pytest.approx(score, abs=2e-3)


def test_shapes_without_area_score_nothing():
    for points in ([(3, 4)], [(3, 4), (20, 30)], [(3, 4), (3, 4), (3, 4)], [(3, 5), (9, 5), (12, 5)]):
        perimeter, area = outline(polygon(points), 40, 40)
        assert shape_complexity(perimeter, area) == scale_invariant(perimeter, area) == 0
    assert outline(b"[[]]", 40, 40) == outline(polygon([(-9, -9), (-2, -9), (-2, -3)]), 40, 40) == (0, 0)


def test_a_crossing_polygon_is_filled_as_opencv_fills_it():
    bow = polygon([(2, 2), (30, 30), (30, 2), (2, 30)])
    assert outline(bow, 40, 40) == plainly(bow, 40, 40)
    assert outline(bow, 40, 40)[1] > 0


def test_holes_do_not_count_and_parts_are_one_contour():
    ring = np.pad(np.ones((20, 20)), 2)
    whole = of_mask(ring)
    ring[8:14, 8:14] = 0
    assert of_mask(ring) == whole
    two = np.zeros((40, 60))
    two[2:6, 2:30] = two[20:38, 10:28] = 1
    assert of_mask(two) == of_mask(np.pad(np.ones((18, 18)), 1))
    assert of_mask(two, "first")[1] == 17**2
    two[30:39, 40:50] = 1
    assert of_mask(two, "first")[1] == 8 * 9


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.floats(0, 10)), min_size=1, max_size=40),
)
def test_a_class_shares_one_among_its_instances(pairs):
    labels, scores = (np.array(column) for column in zip(*pairs, strict=True))
    balanced = class_balanced(labels, scores)
    for label in np.unique(labels):
        of_class = scores[labels == label].sum()
        assert balanced[labels == label].sum() == pytest.approx(float(of_class > 0))


# a small annotated set


def tree(images=6, **changes):
    """Squares, triangles, an empty image, a crowd, a small image, odd spacing and keys nobody knows."""
    boxes = [
        (1, 10, 5, [[10, 10, 40, 10, 40, 40, 10, 40]], {}),
        (2, 10, 7, [[50, 10, 90, 10, 50, 60]], {"score": 0.25, "caption": "é \u2028"}),
        (3, 11, 5, [[10, 10, 80, 12, 40, 14]], {}),
        (4, 12, 7, [[10, 10, 30, 10, 30, 30, 10, 30]], {}),
        (5, 12, 7, {"size": [100, 100], "counts": [500, 40, 9460]}, {"iscrowd": 1}),
        (6, 13, 5, [[2, 2, 20, 2, 20, 20]], {}),
    ]
    sizes = {10: (100, 100), 11: (100, 100), 12: (100, 100), 13: (30, 100), 14: (100, 100), 15: (100, 100)}
    return {
        "info": {"year": 2026, "note": "kept"},
        "licenses": [],
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "width": w, "height": h, "coco_url": None}
            for i, (w, h) in list(sizes.items())[:images]
        ],
        "annotations": [
            {
                "id": i,
                "image_id": image,
                "category_id": c,
                "bbox": [10.0, 10.0, 20, 20],
                "segmentation": s,
                "area": 400,
                **more,
            }
            for i, image, c, s, more in boxes
            if image in list(sizes)[:images]
        ],
        "categories": [{"id": 5, "name": "square"}, {"id": 7, "name": "wedge", "supercategory": "shape"}],
        "scene_annotations": [{"image_id": i, "background": 2} for i in sizes],
        "type": "instances",
        **changes,
    }


@pytest.fixture
def annotated(tmp_path):
    path = tmp_path / "all.json"
    path.write_text(json.dumps(tree(), indent=1, ensure_ascii=False), encoding="utf-8")
    return path


def test_what_is_kept_keeps_its_bytes(annotated):
    kept = (11, 12, 14)
    text = b"".join(subset_json(annotated, kept))
    before, after = json.loads(annotated.read_bytes()), json.loads(text)
    assert after["images"] == [i for i in before["images"] if i["id"] in kept]
    assert after["annotations"] == [a for a in before["annotations"] if a["image_id"] in kept]
    assert after["scene_annotations"] == [a for a in before["scene_annotations"] if a["image_id"] in kept]
    assert {k: after[k] for k in ("info", "licenses", "categories", "type")} == {
        k: before[k] for k in ("info", "licenses", "categories", "type")
    }
    original = annotated.read_bytes()
    whole = msgspec.json.decode(original, type=dict[str, msgspec.Raw])
    for record in msgspec.json.decode(whole["annotations"], type=list[msgspec.Raw]):
        assert (bytes(record) in text) == (json.loads(bytes(record))["image_id"] in kept)


def test_a_subset_without_annotations_is_still_a_file(annotated):
    after = json.loads(b"".join(subset_json(annotated, (14,))))
    assert (len(after["images"]), after["annotations"]) == (1, [])


def test_keeping_everything_keeps_everything(annotated):
    everything = tuple(validate(read_coco(annotated), "all").images)
    assert json.loads(b"".join(subset_json(annotated, everything))) == json.loads(annotated.read_bytes())


def test_scores_by_hand(annotated):
    dataset = validate(read_coco(annotated), "all")
    pruned = prune(dataset, Tfdp(annotations="true"), 3)
    score = {i: scale_invariant(*outline(mask, 100, 100)) for i, mask in masks_of(dataset).items()}
    square, wedge = score[1] + score[3], score[2] + score[4]  # the crowd and the narrow image do not count
    expected = {10: score[1] / square + score[2] / wedge, 11: score[3] / square, 12: score[4] / wedge}
    found = dict(zip(pruned.ranking.image_ids, pruned.ranking.utilities, strict=True))
    assert {i: found[i] for i in expected} == pytest.approx(expected)
    assert set(pruned.kept) == {10, 11, 12}
    assert sum(expected.values()) == pytest.approx(2)
    assert pruned.instances.image_ids.tolist() == [10, 10, 11, 12]
    assert [found[i] for i in (13, 14, 15)] == [min(expected.values())] * 3
    scores = dict(zip(pruned.ranking.image_ids, pruned.scores, strict=True))
    assert scores == pytest.approx({**expected, 13: 0, 14: 0, 15: 0})


def masks_of(dataset):
    return {
        int(i): mask
        for truth in dataset.annotations.values()
        for i, mask, ok in zip(truth.ids, truth.masks, truth.trainable, strict=True)
        if ok
    }


def test_images_that_cannot_be_scored_come_last_in_random_order(annotated):
    dataset = validate(read_coco(annotated), "all")
    tails = {prune(dataset, Tfdp(annotations="true"), 6, random_seed=seed).kept[3:] for seed in range(8)}
    assert all(set(tail) == {13, 14, 15} for tail in tails)
    assert len(tails) > 1


def test_ablations_differ_and_a_common_class_counts_more_without_balance(annotated):
    dataset = validate(read_coco(annotated), "all")
    seen = set()
    for si in (False, True):
        for cb in (False, True):
            strategy = Tfdp(annotations="true", scale_invariant=si, class_balanced=cb)
            seen.add(tuple(prune(dataset, strategy, 3).instances.scores.round(6)))
    assert len(seen) == 4


def run(*arguments):
    return CliRunner().invoke(app, ["prune", *map(str, arguments), "--quiet"])


def test_the_command_writes_the_subset_and_both_tables(annotated, tmp_path):
    out, scores, instances = tmp_path / "part.json", tmp_path / "scores.csv", tmp_path / "instances.csv"
    packed = tmp_path / "all.json.gz"
    packed.write_bytes(gzip.compress(annotated.read_bytes()))
    done = run(
        packed, "--strategy", "tfdp", "--keep", 0.5, "--out", out, "--scores", scores, "--set", f"instances={instances}"
    )
    assert done.exit_code == 0, done.output
    assert "images 3 of 6 (50.0%), boxes 5 of 6" in done.stdout
    assert "class entropy" in done.stdout
    assert "reading" in done.stdout
    dataset = validate(read_coco(out), "part")
    assert set(dataset.images) == {10, 11, 12}
    rows = list(csv.DictReader(scores.read_text().splitlines()))
    assert list(rows[0])[:2] == ["image_id", "score"]
    assert {int(row["image_id"]) for row in rows} == {10, 11, 12, 13, 14, 15}
    assert {int(row["image_id"]) for row in rows if row["kept"] == "1"} == set(dataset.images)
    found = list(csv.DictReader(instances.read_text().splitlines()))
    assert [(row["annotation_id"], row["category_id"]) for row in found] == [
        ("1", "5"),
        ("2", "7"),
        ("3", "5"),
        ("4", "7"),
    ]
    assert sum(float(row["score"]) for row in found) == pytest.approx(2)
    again = tmp_path / "again.json"
    assert run(annotated, "--strategy", "tfdp", "--images", 3, "--out", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--keep", 0), "above 0 and at most 1"),
        (("--keep", -0.5), "above 0 and at most 1"),
        (("--keep", 1.2), "above 0 and at most 1"),
        (("--keep", "nan"), "above 0 and at most 1"),
        (("--keep", 0.01), "asks for 0 images"),
        (("--images", 0), "asks for 0 images"),
        (("--images", 7), "asks for 7 images, and the set has 6"),
        ((), "either --keep"),
        (("--keep", 0.5, "--images", 3), "either --keep"),
        (("--keep", 0.5, "--set", "contour=smallest"), "strategy.contour"),
        (("--keep", 0.5, "--set", "scaleinvariant=true"), "did you mean 'scale_invariant'"),
        (("--keep", 0.5, "--set", "instances"), "expected key=value"),
    ],
)
def test_wrong_usage_exits_with_2_and_writes_nothing(annotated, tmp_path, arguments, words):
    done = run(annotated, "--strategy", "tfdp", "--out", tmp_path / "part.json", *arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())
    assert not (tmp_path / "part.json").exists()


def test_other_wrong_usage(annotated, tmp_path):
    out = tmp_path / "part.json"
    done = run(annotated, "--strategy", "random", "--keep", 0.5, "--out", out, "--set", "instances=x.csv")
    assert (done.exit_code, "scores images, not instances" in done.output) == (2, True)
    done = run(annotated, "--strategy", "csod", "--keep", 0.5, "--out", out)
    assert (done.exit_code, "--config" in done.output) == (2, True)
    done = run(annotated, "--strategy", "tfdp", "--keep", 0.5, "--out", annotated)
    assert (done.exit_code, "is the file that is read" in done.output) == (2, True)
    assert json.loads(annotated.read_bytes()) == tree()
    assert not out.exists()


def with_mask(segmentation):
    changed = tree()
    changed["annotations"][3]["segmentation"] = segmentation
    return changed


@pytest.mark.parametrize(
    "segmentation",
    [
        {"size": [100, 100], "counts": "garbage ☃"},
        {"size": [100, 100], "counts": "0" * 200},
        {"size": [100, 100], "counts": "o" * 3000},
        {"size": [100, 100], "counts": [5, -3, 9998]},
        {"size": [100, 100], "counts": [2**62, 2**62]},
        {"size": [99, 100], "counts": [9900]},
        {"size": [100, 100]},
        {"counts": [10000]},
        {"size": [100, 100], "counts": [[10000]]},
        {"size": None, "counts": [10000]},
        [[1, 2, 3]],
        [[1, 2, "x", 4]],
        [[1e300, 2, 3, 4, 5, 6]],
        [[3e8, 2, 3, 4, 5, 3e8]],
        [[1, 2, [3], 4]],
        [1, 2, 3, 4, 5, 6],
        "text",
        17,
        True,
    ],
)
def test_a_hostile_mask_is_an_error_that_names_it(tmp_path, segmentation):
    path = tmp_path / "all.json"
    path.write_text(json.dumps(with_mask(segmentation)), encoding="utf-8")
    done = run(path, "--strategy", "tfdp", "--keep", 0.5, "--out", tmp_path / "part.json")
    assert done.exit_code == 1
    assert "annotation 4" in done.output
    assert "image 12" in done.output
    assert str(path) in done.output.replace("\n", "")
    assert not (tmp_path / "part.json").exists()


PACKED = st.characters(min_codepoint=48, max_codepoint=111)


@settings(max_examples=300)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner),
        max_leaves=12,
    )
    | st.fixed_dictionaries(
        {"size": st.just([20, 30]), "counts": st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=30)}
    )
)
def test_no_mask_can_do_more_than_be_refused(segmentation):
    text = json.dumps(segmentation).encode()
    try:
        perimeter, area = outline(text, 30, 20)
    except DataError:
        return
    assert math.isfinite(perimeter)
    assert 0 <= area <= 30 * 20


def test_a_packed_number_without_end_is_refused_where_it_stands():
    with pytest.raises(DataError, match="'o' at 13 is not part of packed counts"):
        outline(json.dumps({"size": [100, 100], "counts": "o" * 10_000}).encode(), 100, 100)


def test_a_mask_beyond_reason_is_refused_before_memory_is_taken():
    with pytest.raises(DataError, match="too large"):
        outline(polygon([(0, 0), (99_999, 0), (99_999, 99_999), (0, 99_999)]), 100_000, 100_000)
    assert outline(polygon([(5, 5), (90_000, 5), (90_000, 9)]), 100_000, 100_000)[1] > 0


def test_boxes_without_masks_are_refused_with_the_reason(tmp_path):
    bare = tree()
    del bare["annotations"][2]["segmentation"]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(bare), encoding="utf-8")
    done = run(path, "--strategy", "tfdp", "--keep", 0.5, "--out", tmp_path / "part.json")
    assert done.exit_code == 1
    for words in ("image 11, annotation 3", "no segmentation", "outlines of masks"):
        assert words in " ".join(done.output.split())


def test_ignored_records_are_paid_and_not_scored(annotated):
    changed = tree()
    changed["annotations"][0]["ignore"] = 1
    annotated.write_text(json.dumps(changed), encoding="utf-8")
    dataset = validate(read_coco(annotated), "all")
    assert len(dataset.annotations[10]) == 2
    assert dataset.annotations[10].trainable.tolist() == [False, True]
    scored = prune(dataset, Tfdp(annotations="true"), 3).instances
    assert [
        int(dataset.annotations[i].ids[r]) for i, r in zip(scored.image_ids.tolist(), scored.rows, strict=True)
    ] == [2, 3, 4]


def test_random_prunes_what_it_would_have_queried(annotated):
    dataset = validate(read_coco(annotated), "all")
    chosen = [prune(dataset, Random(), 3, random_seed=seed).kept for seed in range(6)]
    assert all(len(set(kept)) == 3 for kept in chosen)
    assert len({frozenset(kept) for kept in chosen}) > 1
    assert prune(dataset, Random(), 3, random_seed=2).kept == chosen[2]


def test_hidden_labels_are_shown_only_to_strategies_that_say_so():
    with pytest.raises(StrategyError, match="annotations: true looks at hidden labels"):
        Tfdp(annotations="true").select(make_query())
    assert Tfdp(annotations="true").needs == frozenset()
    assert Tfdp().needs


def test_pruning_starts_without_torch(annotated, tmp_path):
    code = (
        "import sys\nfrom alloop.cli.app import app\n"
        f"sys.argv = ['alloop', 'prune', {str(annotated)!r}, '--strategy', 'tfdp', '--keep', '0.5', '--out', "
        f"{str(tmp_path / 'part.json')!r}]\n"
        "try:\n    app()\nexcept SystemExit as end:\n    assert not end.code\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert (tmp_path / "part.json").exists()


def test_shares_of_images_are_rounded():
    assert [count_of(1464, keep, None) for keep in (0.8, 0.7, 0.6, 0.5)] == [1171, 1025, 878, 732]
    assert count_of(5, None, 5) == count_of(5, 1.0, None) == 5
    with pytest.raises(ConfigError):
        count_of(5, None, None)


@pytest.mark.parametrize("name", ["tfdp", "csod", "talisman", "ccs", "k_center", "entropy"])
def test_the_time_of_selecting_is_told_apart(name):
    told = []
    parameters = {"annotations": "true"} if name in ("tfdp", "csod", "talisman", "ccs") else {}
    asked = dataclasses.replace(make_query(truth=name != "tfdp"), progress=lambda *step: told.append(step))
    make_strategy(name, {} if name == "tfdp" else parameters, TABLE).select(asked)
    first = next(place for place, (what, _, _) in enumerate(told) if what == "selecting")
    assert all(what == "selecting" for what, _, _ in told[first:])
    assert told[first][1] == 0 or name in ("tfdp", "entropy")


def test_balance_of_classes_by_hand(annotated):
    dataset = validate(read_coco(annotated), "all")
    balance = Balance.of(dataset, (11, 12))
    assert balance.counts.tolist() == [1, 2]
    assert balance.full.tolist() == [3, 3]
    assert balance.entropy == pytest.approx(-(1 / 3 * math.log(1 / 3) + 2 / 3 * math.log(2 / 3)))
    assert balance.divergence == pytest.approx(1 / 3 * math.log(2 / 3) + 2 / 3 * math.log(4 / 3))
    assert class_entropy(np.full(7, 3.0)) == pytest.approx(math.log(7))
    assert class_entropy(np.zeros(3)) == class_divergence(np.zeros(3), np.ones(3)) == 0
    assert class_divergence(np.array([2.0, 4]), np.array([1.0, 2])) == pytest.approx(0)


@pytest.mark.parametrize("name", ["taco_official", "nwpu_vhr10", "uavvaste"])
def test_real_sets_lose_only_what_is_not_kept(real_data, tmp_path, name):
    path = real_data / "annotations_only" / f"{name}.json.gz"
    dataset = validate(read_coco(path), name)
    pruned = prune(dataset, Tfdp(annotations="true"), count_of(len(dataset.images), 0.5, None))
    present = np.unique(np.concatenate([truth.labels[truth.trainable] for truth in dataset.annotations.values()]))
    assert pruned.instances.scores.sum() == pytest.approx(len(present))
    out = tmp_path / "part.json"
    out.write_bytes(b"".join(subset_json(path, pruned.kept)))
    before, after = json.loads(gzip.decompress(path.read_bytes())), json.loads(out.read_bytes())
    kept = set(pruned.kept)
    assert after["annotations"] == [a for a in before["annotations"] if a["image_id"] in kept]
    validate(read_coco(out), "part")


def test_the_released_scores_of_taco_are_reproduced(real_data):
    oracle = real_data.parent / "oracles" / "tfdp_taco.json"
    if not oracle.is_file():
        pytest.skip(f"{oracle} is not there: the released scores are not part of this project")
    golden = json.loads(oracle.read_text())
    dataset = validate(read_coco(real_data / "annotations_only" / "taco_official.json.gz"), "TACO")
    pruned = prune(dataset, Tfdp(annotations="true"), 1)
    found = dict(zip(pruned.ranking.image_ids, pruned.ranking.utilities, strict=True))
    assert {str(i): score for i, score in found.items()} == pytest.approx(golden["image_CB"], abs=1e-9)
