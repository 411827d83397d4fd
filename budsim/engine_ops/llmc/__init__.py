"""LLMC (LLM Compressor): every fact about it lies in this folder."""

from budsim.engine_ops.llmc.compressor import (
    Llmc,
    job_for,
    scheme_for,
    served_architecture,
    served_name,
)
from budsim.engine_ops.llmc.recipes import recipe_yaml
from budsim.engine_ops.llmc.schemes import Scheme, schemes

__all__ = [
    "Llmc",
    "Scheme",
    "job_for",
    "recipe_yaml",
    "scheme_for",
    "schemes",
    "served_architecture",
    "served_name",
]
