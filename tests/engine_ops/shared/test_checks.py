"""Ranges the engines' parsers leave unchecked."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.shared.checks import check_adapters, check_config, check_kv_space
from tests.engine_ops.samples import GIB, LLAMA, replica


@pytest.mark.parametrize(
    ("count", "rank", "field"), [(0, 16, "max_loras"), (1, 24, "max_lora_rank")]
)
def test_adapters_have_a_number_and_a_rank_with_kernels(count: int, rank: int, field: str) -> None:
    """None at all, or a rank of 24, is refused by field."""
    with pytest.raises(InvalidInput) as refused:
        check_adapters(count, rank)
    assert refused.value.field == field


def test_a_processor_needs_one_gibibyte_of_cache() -> None:
    """Half of one is refused on a Xeon; an H100 is not asked."""
    with pytest.raises(InvalidInput, match="at least 1 GiB"):
        check_kv_space(replica("Xeon Platinum 8480+", kv_space_bytes=0.5 * GIB))
    check_kv_space(replica("H100-SXM", kv_space_bytes=0.0))


def test_a_message_names_the_sizes_that_divide_the_model() -> None:
    """32 heads in three: 1, 2, 4 and 8 are named."""
    with pytest.raises(InvalidInput, match=r"one of \(1, 2, 4, 8\)"):
        check_config(LLAMA, replica("H100-SXM", tp=3))
