"""Rows may say how many LoRA adapters their server had room for."""

from __future__ import annotations

import numpy as np
import pytest

from budsim.performance.measured.measurements import Measurements
from tests.performance.measured.measured_rows import read

VLLM = "args: vllm serve M --enable-lora"
SGLANG = "args: python3 -m sglang.launch_server --enable-lora"


def ranks_of(found: Measurements) -> list[float]:
    """Return slots times rank of each row that can be read."""
    ranks = found.candidates.adapter_ranks
    assert not any(found.problems)
    assert ranks is not None
    return np.asarray(ranks).tolist()


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ({"notes": f"{VLLM} --max-loras 8 --max-lora-rank 64"}, 8 * 64),
        ({"notes": f"{VLLM} --max-loras=4"}, 4 * 16),
        ({"notes": VLLM}, 1 * 16),
        ({"notes": SGLANG, "engine": "sglang"}, 8 * 16),
        (
            {
                "notes": f"{SGLANG} --max-loras-per-batch 3 --max-lora-rank 32",
                "engine": "sglang",
            },
            3 * 32,
        ),
        ({"max_loras": "2", "max_lora_rank": "128"}, 2 * 128),
        ({"notes": f"{VLLM} --max-loras 8", "max_loras": "2"}, 2 * 16),
        ({"notes": "args: vllm serve M --max-loras 8"}, 0),
    ],
)
def test_columns_and_commands_state_the_slots(cells: dict[str, str], expected: float) -> None:
    """A column comes before the command, which counts only where it enables adapters."""
    assert ranks_of(read(cells, {"max_loras": "1"})) == [expected, 16]


def test_rows_without_adapters_have_no_slots() -> None:
    """Tables that speak of no adapter have no column of them."""
    assert read({}).candidates.adapter_ranks is None


@pytest.mark.parametrize(
    ("cells", "field"),
    [
        ({"max_lora_rank": "16"}, "max_lora_rank"),
        ({"max_loras": "1.5"}, "max_loras"),
        ({"max_loras": "2", "max_lora_rank": "17"}, "max_lora_rank"),
        ({"max_loras": "-1"}, "max_loras"),
    ],
)
def test_adapters_that_cannot_be_name_their_column(cells: dict[str, str], field: str) -> None:
    """The row's problem names the column."""
    assert read(cells).problems[0].startswith(field)
