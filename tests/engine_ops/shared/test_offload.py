"""Host memory for KV cache, read back from an engine's arguments."""

from __future__ import annotations

import pytest

from budsim.commons.errors import InvalidInput
from budsim.commons.units import GIB
from budsim.engine_ops import serving_engines
from budsim.engine_ops.shared.offload import host_cache_gib
from budsim.model_ops.registry import resolve_model
from tests.engine_ops.samples import replica


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
@pytest.mark.parametrize("layout", [{"tp": 2}, {"tp": 8, "dp": 8, "ep": 8}])
def test_what_a_replica_was_given_is_read_back(engine: str, layout: dict[str, int]) -> None:
    """50 GiB a device, whether the flag counts ranks or devices, GiB or GB."""
    model = resolve_model(
        "Qwen/Qwen3-235B-A22B" if "dp" in layout else "meta-llama/Llama-3.1-8B-Instruct"
    )
    config = replica("H100-SXM", **layout, kv_offload_bytes=50 * GIB * layout["tp"])
    args = serving_engines[engine].launch(model, config).args
    assert host_cache_gib(args, layout["tp"]) == pytest.approx(50.0, abs=1.0)


def test_without_the_flags_there_is_none() -> None:
    """Engines keep nothing on the host by themselves."""
    assert host_cache_gib({"max-num-seqs": 8}, 4) == 0.0


@pytest.mark.parametrize(
    "config", ["garbage", "{bad", "[1, 2]", "[" * 100_000, '{"kv_connector_extra_config": 5}']
)
def test_connectors_that_cannot_be_read_are_named(config: str) -> None:
    """A plan's document that somebody edited names its argument, whatever stands there."""
    with pytest.raises(InvalidInput, match=r"^kv-transfer-config: names no connectors"):
        host_cache_gib({"kv-transfer-config": config}, 1)


@pytest.mark.parametrize("flag", ["kv-offloading-size", "hicache-size"])
def test_a_size_that_is_no_number_is_named(flag: str) -> None:
    """As connectors are."""
    with pytest.raises(InvalidInput, match=f"^{flag}: 'abc' is no number"):
        host_cache_gib({flag: "abc"}, 1)
