"""SGLang's defaults by the memory of a device."""

from __future__ import annotations

import pytest

from budsim.engine_ops.sglang import Sglang
from budsim.engine_ops.sglang.defaults import decode_graph_limit
from budsim.hardware_ops.device import DeviceKind
from tests.engine_ops.samples import LLAMA, device, replica


@pytest.mark.parametrize(
    ("name", "chunk", "alone", "four"),
    [
        ("T4", 2048, 8, 8),
        ("A10", 4096, 48, 160),
        ("L40S", 4096, 32, 160),
        ("H100-SXM", 8192, 256, 512),
        ("H200", 8192, 256, 512),
        ("B200-SXM", 16384, 512, 512),
        ("MI300X", 16384, 512, 512),
    ],
)
def test_chunks_and_decode_graphs_grow_with_memory(
    name: str, chunk: int, alone: int, four: int
) -> None:
    """From 2,048 tokens and graphs of 8 on a T4 to 16,384 and 512 on a B200."""
    on = device(name)
    assert Sglang().profile(on.kind).limits_on(on) == (chunk, 2048)
    assert (decode_graph_limit(on, 1), decode_graph_limit(on, 4)) == (alone, four)


def test_decode_graphs_cover_all_running_sequences() -> None:
    """An L40S captures 32 by itself: 128 are said; 16 need no word, nor do 256 on an H100."""
    flag = "cuda-graph-max-bs-decode"
    assert Sglang().launch(LLAMA, replica("L40S", max_num_seqs=128)).args[flag] == 128
    assert flag not in Sglang().launch(LLAMA, replica("L40S", max_num_seqs=16)).args
    assert flag not in Sglang().launch(LLAMA, replica("H100-SXM", max_num_seqs=256)).args


def test_a_pipeline_schedules_without_overlap() -> None:
    """SGLang switches it off itself; the command says so."""
    launch = Sglang().launch(LLAMA, replica("H100-SXM", pp=2))
    assert launch.args["disable-overlap-schedule"] is True
    assert "disable-overlap-schedule" not in Sglang().launch(LLAMA, replica("H100-SXM")).args
    assert Sglang().profile(DeviceKind.CPU).limits == ()
