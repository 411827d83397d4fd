"""SGLang: every fact about it lies in this folder."""

from budsim.engine_ops.sglang.engine import Sglang

__all__ = ["Sglang"]
