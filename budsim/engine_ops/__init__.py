"""By what: serving engines, compressors and routers as values behind one interface."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from budsim.engine_ops.base import Compressor, Router, ServingEngine
from budsim.engine_ops.litellm import Litellm
from budsim.engine_ops.llmc import Llmc
from budsim.engine_ops.sglang import Sglang
from budsim.engine_ops.vllm import Vllm

serving_engines: Final[Mapping[str, ServingEngine]] = MappingProxyType(
    {
        "vllm": Vllm(),
        "sglang": Sglang(),
    }
)
"""Engines that make candidates, by name, in the order they are tried."""

routers: Final[Mapping[str, Router]] = MappingProxyType(
    {
        "litellm": Litellm(),
    }
)
"""Engines that spread requests over replicas or call a provider."""

compressors: Final[Mapping[str, Compressor]] = MappingProxyType(
    {
        "llmc": Llmc(),
    }
)
"""Engines that change a model's precision before candidates exist."""

__all__ = ["compressors", "routers", "serving_engines"]
