"""Lenient rules are counted, in the order of their first application."""

from alloop.data.notes import Note, Notes


def test_the_same_rule_is_counted_and_remembers_where_it_was_applied_first():
    notes = Notes()
    notes.add("iscrowd is null", "id 4")
    notes.add("id is a text", "id 'a'", 3)
    notes.add("iscrowd is null", "id 7", 2)
    notes.add("never", "nowhere", 0)
    assert notes.listed() == (Note("iscrowd is null", 3, "id 4"), Note("id is a text", 3, "id 'a'"))
    assert str(notes.listed()[0]) == "id 4: iscrowd is null (3 times)"
    assert str(Note("once", 1, "here")) == "here: once"
