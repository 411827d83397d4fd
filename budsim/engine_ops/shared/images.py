"""Which container image runs an engine on a device."""

from __future__ import annotations

from functools import cache

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.shared.kernels import Requirement, requirement_from
from budsim.engine_ops.shared.tables import load_table
from budsim.hardware_ops.device import Device, DeviceKind


def image_for(engine: str, version: str, device: Device) -> str:
    """Return the container image, without registry host, that runs ``engine`` on ``device``.

    Raises
    ------
    InvalidInput
        When the engine has none for the device.
    """
    for requirement, image in _images(engine, device.kind):
        if requirement.met_by(device):
            return image.format(version=version)
    problem = f"{engine} has no image for {device.name}"
    raise InvalidInput("device", problem, "a device the engine has a build for")


@cache
def _images(engine: str, kind: DeviceKind) -> tuple[tuple[Requirement, str], ...]:
    return tuple(
        (requirement_from(entry), entry["image"])
        for entry in load_table(engine, "images")
        if entry["kind"] == kind
    )
