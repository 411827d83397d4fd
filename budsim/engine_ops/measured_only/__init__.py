"""Engines we predict because others measured them, and do not launch.

To add one, write its profile in a module here and name it in `PROFILES`.
"""

from typing import Final

from budsim.engine_ops.measured_only import (
    deepspeed_mii,
    llama_cpp,
    lmdeploy,
    openvino,
    rocm_atom,
    static_batches,
    tensorrt_llm,
    text_generation_inference,
)

# By the names measurements spell.
PROFILES: Final = (
    *tensorrt_llm.PROFILES,
    *rocm_atom.PROFILES,
    *lmdeploy.PROFILES,
    *text_generation_inference.PROFILES,
    *llama_cpp.PROFILES,
    *openvino.PROFILES,
    *deepspeed_mii.PROFILES,
    *static_batches.PROFILES,
)

# Profiles on hardware where an engine of the same name works differently.
PROFILES_BY_KIND: Final = {**llama_cpp.PROFILES_BY_KIND}

# How versions divide a GPU, newest first, of engines whose rule was read.
MEMORY_RULES: Final = {"trtllm": tensorrt_llm.MEMORY_RULES}

__all__ = ["MEMORY_RULES", "PROFILES", "PROFILES_BY_KIND"]
