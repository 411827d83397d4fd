"""What one process of a measured row had of its processor: cores and memory bandwidth."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from budsim.hardware_ops.device import Device
from budsim.performance.candidates import Floats

# Their processes run in containers whose memory is that of node 0 (benchmarks/run.py of
# AmpereComputingAI/llama.cpp).
ONE_NODE_SOURCES = ("ampere_llamacpp",)

# Share of one node's bandwidth that cores of several nodes reach; fitted on llama.cpp's rows of Ice
# Lake and Milan, by hand.
REMOTE_SHARE = 0.55

# Exponent by which that share grows with processes behind one cache; fitted on the same rows.
SHARED_READING = 0.55


def stated_threads(notes: pd.Series, cores: pd.Series) -> Floats:
    """Return the cores or threads of one process of each row, (n,); 0 where none are stated.

    Those of the column ``cores``, else of the notes (``threads per process=16``).
    """
    noted = notes.str.extract(r"threads per process=(\d+)")[0].astype(np.float64)
    return np.asarray(cores.fillna(noted).fillna(0.0), dtype=np.float64)


def physical_cores(threads: Floats, devices: Sequence[Device], replicas: Floats) -> Floats:
    """Return the cores of a process, shape (n,); 0 is all of them.

    Two threads may share a core, and all processes share the socket's.
    """
    units = np.array([float(device.compute_units) for device in devices])
    return np.minimum(threads, units / replicas)


def bandwidth_share(sources: pd.Series, devices: Sequence[Device], replicas: Floats) -> Floats:
    """Return the share of its memory bandwidth a processor's processes reach together, (n,).

    A benchmark that binds memory to one of several nodes has about half of that node's bandwidth,
    because most cores reach it from afar. Processes behind one last-level cache read the same
    weights together.
    """
    nodes = np.array([float(device.numa_nodes) for device in devices])
    caches = np.array([_last_level_caches(device) for device in devices])
    together = np.maximum(replicas / caches, 1.0) ** SHARED_READING
    bound = sources.isin(ONE_NODE_SOURCES).to_numpy() & (nodes > 1)
    return np.where(bound, np.minimum(REMOTE_SHARE / nodes * together, 1.0), 1.0)


def _last_level_caches(device: Device) -> float:
    """Return the last-level caches of a processor.

    Eight of AMD's cores share one; other processors have one for each memory node.
    """
    return (
        max(device.compute_units / 8.0, 1.0) if device.vendor == "amd" else float(device.numa_nodes)
    )
