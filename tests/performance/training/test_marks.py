"""Marks beside what was reached."""

from budsim.performance.training.marks import marks


def test_marks_stand_beside_what_was_reached(trained):
    """Every line has its marks; those about other rows than the invented ones have no figure."""
    table = marks(trained)
    assert len(table) == 10
    assert table.here[0] == "- / -"
    assert (table[["first mark", "goal", "best elsewhere"]] != "").all(axis=None)
