"""How a plan is laid out: processes of a replica, and what its starter adds."""

import pytest

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import Additions, render
from tests.simulator.rendering.reading import commands_of, flags_of


def test_a_pipeline_over_unequal_shares_is_cut_into_equal_processes(layout):
    """Four stages of two GPUs, three of them on one node: that node runs three equal processes."""
    text = layout("cuda", "vllm", {"a": 6, "b": 2}, tp_size=2, pp_size=4)
    found = [flags_of(words) for words in commands_of(render(text, "command"))]
    assert [each["node-rank"] for each in found] == [0, 1, 2, 3]
    assert [words[0] for words in commands_of(render(text, "command"))] == [
        "CUDA_VISIBLE_DEVICES=0,1",
        "CUDA_VISIBLE_DEVICES=2,3",
        "CUDA_VISIBLE_DEVICES=4,5",
        "CUDA_VISIBLE_DEVICES=0,1",
    ]


@pytest.mark.parametrize(
    ("engine", "count"), [("vllm", "max-loras"), ("sglang", "max-loras-per-batch")]
)
def test_adapters_are_served_where_the_family_has_them(layout, engine, count):
    """Four adapters of rank 32 in each engine's words, with a warning.

    A family without them is refused, so is an odd rank.
    """
    wanted = Additions(max_loras=4, max_lora_rank=32)
    text = render(layout("cuda", engine, {"a": 1}), "command", additions=wanted)
    flags = flags_of(commands_of(text)[0])
    assert (flags["enable-lora"], flags[count], flags["max-lora-rank"]) == (True, 4, 32)
    assert "LoRA adapters take memory" in text
    with pytest.raises(InvalidInput, match="max_loras: "):
        render(layout("cuda", engine, {"a": 1}, supports_lora=False), "command", additions=wanted)
    with pytest.raises(InvalidInput, match="max_lora_rank"):
        render(
            layout("cuda", engine, {"a": 1}),
            "command",
            additions=Additions(max_loras=1, max_lora_rank=24),
        )
