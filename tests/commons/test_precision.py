"""Number formats: the bytes they take, and the format they are multiplied in."""

import pytest

from budsim.commons.precision import FORMATS, Precision, bytes_per_value, compute_format


@pytest.mark.parametrize(
    ("precision", "size"),
    [
        (Precision.BF16, 2.0),
        (Precision.FP8, 1.0),
        (Precision.INT4, 4.25 / 8),  # 4 bits, and 32 bits of scale and zero for 128 values
        (Precision.Q8_0, 34 / 32),  # 34 bytes for 32 values
    ],
)
def test_a_value_takes_its_bits_and_its_share_of_scales(precision: Precision, size: float):
    """Bytes a value."""
    assert bytes_per_value(precision) == pytest.approx(size)


def test_every_format_has_figures_and_a_source():
    """And is multiplied in a format that is known too."""
    assert set(FORMATS) == set(Precision)
    assert all(found.source for found in FORMATS.values())
    assert {compute_format(precision) for precision in Precision} <= set(Precision)


def test_weight_only_formats_multiply_in_16_bit():
    """Their kernels unpack weights first."""
    assert compute_format(Precision.INT4) is Precision.BF16
