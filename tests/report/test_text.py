"""A comparison as text."""

from alloop.report.numbers import to_csv
from alloop.report.text import to_table
from alloop.results.compare import (
    compare_runs,
)
from tests.support.runs import write_study


def test_table_and_csv_say_the_same(tmp_path):
    study = write_study(tmp_path)
    comparison = compare_runs([study])
    table, lines = to_table(comparison, target_ap=0.3), to_csv(comparison).splitlines()
    assert "entropy against random at equal boxes" in table
    assert "entropy: ap 0.3 at" in table
    assert "random: ap 0.3 not reached" in table
    assert "reference split is the test split" in table
    assert lines[0] == "strategy,random_seed,label_using,round,images,boxes,ap,ap50,ap75"
    assert len(lines) == 9
    assert lines[1].endswith(",0.100000,0.100000,")
