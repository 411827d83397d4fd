"""A plan as LLM Compressor recipes: how the quantized checkpoints it serves are made."""

from __future__ import annotations

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering.deployments import Deployment
from budsim.simulator.rendering.writing import comments
from budsim.simulator.schemas import Compression


def recipes(deployment: Deployment) -> str:
    """Return the recipe of every checkpoint the plan has to quantize, as YAML documents.

    Raises
    ------
    InvalidInput
        Every checkpoint is served as it is.
    """
    jobs = {
        group.launch.model: group.compression for group in deployment.groups if group.compression
    }
    if not jobs:
        raise InvalidInput(
            "format",
            "the plan serves its checkpoint as it is: there is no recipe",
            "a plan with --quantize",
        )
    return "---\n".join(_recipe(name, job) for name, job in jobs.items())


def _recipe(name: str, job: Compression) -> str:
    about = (
        f"budsim: LLM Compressor recipe that makes {name} of {job.checkpoint}"
        f" ({job.method}, {job.scheme})",
        f"on one device: {job.hours:g} h, {job.cost_usd:g} USD,"
        f" {job.device_memory_gb:g} GiB of its memory, "
        f"{job.host_memory_gb:g} GiB on the host (estimates)",
    )
    return comments(about) + job.recipe
