"""Host time by engine."""

from budsim.engine_ops.profiles import profiles
from budsim.performance.physics.first_token import FIRST_TOKEN


def test_engines_with_measured_ttft_have_host_times_of_their_own() -> None:
    """vLLM, SGLang and TensorRT-LLM do, as their profiles say."""
    assert {"vllm", "sglang", "trtllm"} <= set(FIRST_TOKEN)
    assert all(FIRST_TOKEN[name] is profiles()[name].first_token for name in FIRST_TOKEN)
