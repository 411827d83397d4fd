"""Marks beside what was reached."""

from budsim.performance.training.marks import marks


def test_marks_stand_beside_what_was_reached(trained):
    """The invented rows are no serving rows of the marks' sources, so those lines have no figure; every line has its marks."""
    table = marks(trained)
    assert len(table) == 10
    assert table.here[0] == "- / -"
    assert (table[["first mark", "goal", "best elsewhere"]] != "").all(axis=None)
