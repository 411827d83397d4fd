"""Serving engines, compressors and routers, each a folder, all behind the interface of `base`.

To add an engine: a folder with its facts, a line below, and for a serving engine its row of
``ENGINE_COMPATIBILITY_MAPPING`` in `budsim.commons.constants`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from budsim.engine_ops.base import Compressor, Router, ServingEngine
from budsim.engine_ops.litellm import Litellm
from budsim.engine_ops.llmc import Llmc
from budsim.engine_ops.sglang import Sglang
from budsim.engine_ops.vllm import Vllm

# Engines that make candidates, by name, in the order they are tried.
serving_engines: Final[Mapping[str, ServingEngine]] = MappingProxyType(
    {engine.name: engine for engine in (Vllm(), Sglang())}
)

# Engines that spread requests over replicas or call a provider.
routers: Final[Mapping[str, Router]] = MappingProxyType(
    {engine.name: engine for engine in (Litellm(),)}
)

# Engines that change a model's precision before candidates exist.
compressors: Final[Mapping[str, Compressor]] = MappingProxyType(
    {engine.name: engine for engine in (Llmc(),)}
)

__all__ = ["compressors", "routers", "serving_engines"]
