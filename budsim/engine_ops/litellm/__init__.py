"""LiteLLM: every fact about it lies in this folder."""

from budsim.engine_ops.litellm.router import STRATEGIES, Litellm

__all__ = ["STRATEGIES", "Litellm"]
