"""vLLM: every fact about it lies in this folder."""

from budsim.engine_ops.vllm.engine import Vllm

__all__ = ["Vllm"]
