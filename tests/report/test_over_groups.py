"""Intervals over test groups as a table, as JSON and as CSV."""

from dataclasses import replace

from alloop.report.numbers import to_csv
from alloop.report.over_groups import difference_sentence, group_blocks, groups_columns, groups_json
from alloop.results.compare import compare_runs
from alloop.results.group_intervals import Estimate, GroupIntervals, StrategyRound
from alloop.tables import plain
from tests.support.runs import write_study

OF_RUN = tuple(Estimate(value, (value - 0.05, value + 0.05)) for value in (0.1, 0.2))
OVER = GroupIntervals(
    metric="ap50",
    groups=12,
    images=40,
    resamples=1999,
    rounds=(StrategyRound("random", 1, 2, 30.0, 54.5, 60.25, Estimate(0.5, (0.4, 0.625))),),
    differences={"entropy": Estimate(0.0275, (-0.01, 0.0625))},
    of_runs=(OF_RUN,) * 4,
)


def test_the_table_has_every_figure(tmp_path):
    text = plain(*group_blocks(compare_runs(write_study(tmp_path)), OVER))
    assert "AP50 with 95 % intervals over 12 test groups (40 images, 1999 resamples)" in text
    row = next(line for line in text.splitlines() if line.startswith("random"))
    assert row.split() == ["random", "1", "2", "30", "54", "0.500", "0.400", "0.625"]
    assert difference_sentence(OVER, "entropy") in text
    assert "+0.028 AP50 (95 % interval over 12 test groups -0.010 to +0.062, same groups for both)" in text
    assert "warning" not in text


def test_few_groups_are_a_warning(tmp_path):
    comparison = compare_runs(write_study(tmp_path))
    assert "warning: 9 test groups are too few; do not trust" in plain(
        *group_blocks(comparison, replace(OVER, groups=9))
    )
    assert groups_json(replace(OVER, groups=9))["too_few_groups"]
    assert "warning" not in plain(*group_blocks(comparison, replace(OVER, groups=10)))


def test_json_is_flat():
    tree = groups_json(OVER)
    assert tree["rounds"][0] == {
        "strategy": "random",
        "round": 1,
        "seeds": 2,
        "images": 30.0,
        "boxes": 54.5,
        "paid": 60.25,
        "value": 0.5,
        "interval": (0.4, 0.625),
    }
    assert tree["differences"] == [{"strategy": "entropy", "value": 0.0275, "interval": (-0.01, 0.0625)}]
    assert (tree["groups"], tree["resamples"], tree["too_few_groups"]) == (12, 1999, False)


def test_csv_gains_columns_at_the_end(tmp_path):
    comparison = compare_runs(write_study(tmp_path))
    before, after = to_csv(comparison).splitlines(), to_csv(comparison, groups_columns(OVER)).splitlines()
    assert after[0] == before[0] + ",ap50_low,ap50_high,test_groups"
    assert after[1:] == [
        f"{line},{value - 0.05:.6f},{value + 0.05:.6f},12"
        for line, value in zip(before[1:], [0.1, 0.2] * 4, strict=True)
    ]
