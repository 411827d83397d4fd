"""Published checkpoints of a model in fewer bits, as far as the catalog knows them."""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from budsim.commons.precision import Precision
from budsim.model_ops.architecture import Architecture
from budsim.model_ops.catalog import catalog_entries
from budsim.model_ops.registry import resolve_model

# How publishers mark a quantized checkpoint behind the model's name. FP8 comes first: it loses the
# least quality, and most devices of today multiply it.
_SUFFIX: Final = re.compile(
    r"-(?P<fp8>fp8(-dynamic|-kv)?)|-(?P<other>nvfp4|mxfp4|fp4|awq(-int4)?|gptq(-int[48])?"
    r"|quantized\.w(4a16|8a8))",
    re.IGNORECASE,
)

# Publishers whose checkpoints run on devices of more than one vendor.
_GENERAL: Final = ("redhatai/", "neuralmagic/", "hugging-quants/")


def quantized_checkpoints(architecture: Architecture) -> tuple[str, ...]:
    """Return the ids of a model's quantized checkpoints, FP8 first, the model's own publisher next.

    Nothing for a model that is quantized itself.

    Examples
    --------
    ``meta-llama/Llama-3.3-70B-Instruct``: ``RedHatAI/Llama-3.3-70B-Instruct-FP8-dynamic``, ...
    """
    if architecture.quantization is not None:
        return ()
    publisher, _, _ = architecture.model_id.lower().rpartition("/")
    found = _by_name().get(_bare(architecture.model_id), ())
    return tuple(
        sorted(
            found,
            key=lambda name: (
                "fp8" not in name.lower(),
                not name.lower().startswith(f"{publisher}/"),
                not name.lower().startswith(_GENERAL),
                name.lower(),
            ),
        )
    )


def published_in(architecture: Architecture, precision: Precision) -> str | None:
    """Return the first checkpoint of the catalog with a model's weights in this precision."""
    for model_id in quantized_checkpoints(architecture):
        quantization = resolve_model(model_id).quantization
        if quantization and quantization.precision is precision:
            return model_id
    return None


@cache
def _by_name() -> dict[str, tuple[str, ...]]:
    """Return the quantized checkpoints of the catalog by the bare name of what they are made of."""
    found: dict[str, tuple[str, ...]] = {}
    for entry in catalog_entries().values():
        bare = _bare(entry.model_id)
        for match in _SUFFIX.finditer(bare):
            if match.end() == len(bare):
                base = bare[: match.start()]
                found[base] = tuple(dict.fromkeys((*found.get(base, ()), entry.model_id)))
    return found


def _bare(model_id: str) -> str:
    """Return a name without publisher, in lower case; Llama is also called Meta-Llama."""
    return model_id.lower().rpartition("/")[2].removeprefix("meta-")
