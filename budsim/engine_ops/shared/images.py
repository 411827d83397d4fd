"""Which container image runs an engine on a device, and where its chat templates lie in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.base import Launch
from budsim.engine_ops.shared.kernels import Requirement, requirement_from
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import Device, DeviceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """One published image.

    Attributes
    ----------
    reference : str
        Name and tag, with ``{version}`` where the engine's version stands. Without registry host
        where Docker Hub has it.
    requirement : Requirement
        Devices it is built for.
    examples : str, optional
        Folder of the engine's chat templates inside the image, None where there is none.
    """

    reference: str
    requirement: Requirement
    examples: str | None


def image_for(engine: str, version: str, device: Device) -> str:
    """Return the container image that runs ``engine`` on ``device``.

    Raises
    ------
    InvalidInput
        When the engine has none for the device.
    """
    for image in _images(engine, device.kind):
        if image.requirement.met_by(device):
            return image.reference.format(version=version)
    problem = f"{engine} has no image for {device.name}"
    raise InvalidInput("device", problem, "a device the engine has a build for")


def template_path(engine: str, kind: DeviceKind, template: str | None) -> str | None:
    """Return where ``template`` lies in the engine's image for ``kind``; None if it does not."""
    folder = next((image.examples for image in _images(engine, kind)), None)
    return f"{folder}/{template}" if template and folder else None


def image_key(engine: str, kind: DeviceKind) -> str:
    """Return the key under which a site names its own image: ``vllm/hpu``."""
    return f"{engine}/{kind}"


def with_own_image(
    launch: Launch, engine: str, kind: DeviceKind, images: Mapping[str, str]
) -> Launch:
    """Return ``launch`` with the site's own image where ``images`` names one by `image_key`.

    An image named for the engine alone (``vllm``) serves every kind of device.
    """
    own = images.get(image_key(engine, kind)) or images.get(engine)
    return replace(launch, image=own) if own else launch


@cache
def _images(engine: str, kind: DeviceKind) -> tuple[Image, ...]:
    return tuple(
        Image(
            reference=entry["image"],
            requirement=requirement_from(entry),
            examples=entry["examples"],
        )
        for entry in load_table(engine, "images")
        if entry["kind"] == kind
    )
