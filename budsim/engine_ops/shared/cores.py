"""Which cores the ranks of a CPU replica run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from budsim.engine_ops.base import ReplicaConfig, ReplicaProcess


def thread_ranges(config: ReplicaConfig) -> str:
    """Return the core ranges of a CPU replica's ranks (``0-27|56-83``).

    One rank a socket: it takes ``config.cores`` physical cores from the first of its socket on.
    ``auto`` when the cores are not known.
    """
    # The device counts the cores of a socket; a caller may grant more than the catalog knows.
    socket_cores = max(config.cores, config.device.compute_units)
    return "|".join(core_ranges(range(config.tp * config.pp), config.cores, socket_cores)) or "auto"


def core_ranges(sockets: Iterable[int], cores: int, socket_cores: int) -> tuple[str, ...]:
    """Return the core ranges of ranks on these sockets, one a socket; none for ``cores`` 0."""
    starts = [socket * socket_cores for socket in sockets] if cores > 0 else []
    return tuple(f"{start}-{start + cores - 1}" for start in starts)


def bind_cores(
    envs: Mapping[str, str], variable: str, process: ReplicaProcess
) -> Mapping[str, str]:
    """Return the environment with the process's cores in ``variable``, if it was bound before."""
    if variable not in envs or not process.cores:
        return envs
    return {**envs, variable: "|".join(process.cores)}
