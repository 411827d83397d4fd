"""The ideal: a device that reaches its data sheet."""

from budsim.performance.physics.attainable import IDEAL
from tests.performance.physics.test_kernel_constants import SHARES


def test_the_ideal_reaches_its_data_sheet_and_costs_nothing() -> None:
    """All shares are 1 and all latencies 0."""
    assert all(getattr(IDEAL, share) == 1.0 for share in SHARES)
    assert not any(
        getattr(IDEAL, name) for name in IDEAL.__dataclass_fields__ if name.endswith("_s")
    )
