"""Tables as plain text, on a terminal, and as CSV."""

import io
import sys

from alloop.tables import Table, csv_text, figure, plain, show


def test_plain_columns_are_aligned_and_never_cut():
    long = "x" * 500
    text = plain("title", Table(["name", "boxes"], [["a", "5"], [long, "1234"]]), "end")
    title, header, first, second, end = text.splitlines()
    assert (title, end) == ("title", "end")
    assert second == f"{long}   1234"
    assert {len(line) for line in (header, first, second)} == {len(second)}
    assert header.endswith("boxes")


def test_square_brackets_are_text():
    assert "[red]dog[/red]" in plain(Table(["class"], [["[red]dog[/red]"]]))


def test_a_line_break_in_a_cell_is_kept():
    assert plain(Table(["a", "b"], [["1", "x\ny"]], left=2)).splitlines()[1:] == ["1  x", "   y"]


def test_a_table_without_headings_has_no_heading_line():
    assert plain(Table(["", ""], [["a", "1"]])) == "a  1"


def test_frames_are_for_terminals_alone(monkeypatch):
    class Terminal(io.StringIO):
        encoding = "utf-8"

        def isatty(self):
            return True

    for stream, framed in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stdout", stream)
        show("title", Table(["a"], [["1"]]))
        assert ("─" in stream.getvalue()) == framed


def test_csv_quotes_what_needs_it():
    assert csv_text(["a", "b"], [["x,y", 'z"'], [1, None]]) == 'a,b\n"x,y","z"""\n1,\n'


def test_figures_that_are_not_known_are_a_dash():
    assert (figure(None), figure(0.5), figure(12.0, ".0f")) == ("-", "0.500", "12")
