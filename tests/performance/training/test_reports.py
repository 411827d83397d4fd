"""The report beside the artefacts."""

from __future__ import annotations

from budsim.hardware_ops.device import DeviceKind
from budsim.performance.training.fit import Trained
from budsim.performance.training.marks import marks
from budsim.performance.training.reports import lines, markdown


def test_every_way_of_withholding_has_its_lines(trained: dict[DeviceKind, Trained]) -> None:
    """Physics alone, then curves, models and devices; physics is off by a third."""
    found = lines(trained)
    withheld = {line.withheld for line in found}
    assert {"each curve", "each model", "each device"} < withheld
    alone = next(x for x in found if x.withheld.startswith("nothing") and x.quantity == "tpot")
    assert 0.3 < alone.median < 0.37


def test_the_report_is_a_table_a_reader_can_follow(trained: dict[DeviceKind, Trained]) -> None:
    """Headings for each kind, with parties and devices."""
    text = markdown(trained, marks(trained))
    assert "## cuda: each party withheld" in text
    assert "| invented | serving | tpot | 80 |" in text
    assert "| device H100-SXM | tpot |" in text
