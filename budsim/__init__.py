"""budsim: what to deploy, how it will perform, what it will cost, and how sure that is.

    import budsim

    found = budsim.simulate(
        model="meta-llama/Llama-3.1-70B-Instruct",
        cluster="docs/examples/demo-cluster.yaml",
        traffic=budsim.Traffic.closed(concurrency=64, input_tokens=2048, output_tokens=512),
        targets=budsim.Targets(ttft_s=2.0, tokens_per_s_per_user=20),
    )

`simulate`, `capacity`, `day`, `size`, `together` and `predict` are the questions. Their answers
show themselves in a notebook and have ``to_pandas()`` and ``to_json()``. Names are imported when
they are first used: ``import budsim`` itself loads nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from budsim.api.answers import Capacities as Capacities
    from budsim.api.answers import DeviceSets as DeviceSets
    from budsim.api.answers import RowPredictions as RowPredictions
    from budsim.api.answers import Simulation as Simulation
    from budsim.api.daily import DailyReplicas as DailyReplicas
    from budsim.api.inputs import SearchOptions as SearchOptions
    from budsim.api.questions import capacity as capacity
    from budsim.api.questions import day as day
    from budsim.api.questions import predict as predict
    from budsim.api.questions import read_clusters as read_clusters
    from budsim.api.questions import simulate as simulate
    from budsim.api.questions import size as size
    from budsim.api.several_models import Ask as Ask
    from budsim.api.several_models import SharedCluster as SharedCluster
    from budsim.api.several_models import together as together
    from budsim.commons.errors import BudsimError as BudsimError
    from budsim.commons.errors import InvalidInput as InvalidInput
    from budsim.commons.errors import NotFound as NotFound
    from budsim.hardware_ops.cluster import Cluster as Cluster
    from budsim.hardware_ops.device import Device as Device
    from budsim.model_ops.media import Media as Media
    from budsim.performance.lengths import EmpiricalLength as EmpiricalLength
    from budsim.performance.lengths import FixedLength as FixedLength
    from budsim.performance.lengths import LognormalLength as LognormalLength
    from budsim.performance.lengths import UniformLength as UniformLength
    from budsim.performance.measured.traces import read_trace as read_trace
    from budsim.performance.prefixes import PrefixSet as PrefixSet
    from budsim.performance.prefixes import PrefixShare as PrefixShare
    from budsim.performance.prefixes import Sessions as Sessions
    from budsim.performance.prefixes import SharedPrefixes as SharedPrefixes
    from budsim.performance.recorded import Trace as Trace
    from budsim.performance.traffic import ClosedLoop as ClosedLoop
    from budsim.performance.traffic import OpenLoop as OpenLoop
    from budsim.performance.traffic import Process as Process
    from budsim.performance.traffic import Traffic as Traffic
    from budsim.simulator.planning.plans import Plan as Plan
    from budsim.simulator.planning.plans import Rejection as Rejection
    from budsim.simulator.planning.targets import PercentileTarget as PercentileTarget
    from budsim.simulator.planning.targets import Targets as Targets

__version__ = "0.2.0"

_HOMES = {
    "budsim.api.answers": "Capacities DeviceSets RowPredictions Simulation",
    "budsim.api.daily": "DailyReplicas",
    "budsim.api.inputs": "SearchOptions",
    "budsim.api.questions": "capacity day predict read_clusters simulate size",
    "budsim.api.several_models": "Ask SharedCluster together",
    "budsim.commons.errors": "BudsimError InvalidInput NotFound",
    "budsim.hardware_ops.cluster": "Cluster",
    "budsim.hardware_ops.device": "Device",
    "budsim.model_ops.media": "Media",
    "budsim.performance.lengths": "EmpiricalLength FixedLength LognormalLength UniformLength",
    "budsim.performance.measured.traces": "read_trace",
    "budsim.performance.prefixes": "PrefixSet PrefixShare Sessions SharedPrefixes",
    "budsim.performance.recorded": "Trace",
    "budsim.performance.traffic": "ClosedLoop OpenLoop Process Traffic",
    "budsim.simulator.planning.plans": "Plan Rejection",
    "budsim.simulator.planning.targets": "PercentileTarget Targets",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "Ask",
    "BudsimError",
    "Capacities",
    "ClosedLoop",
    "Cluster",
    "DailyReplicas",
    "Device",
    "DeviceSets",
    "EmpiricalLength",
    "FixedLength",
    "InvalidInput",
    "LognormalLength",
    "Media",
    "NotFound",
    "OpenLoop",
    "PercentileTarget",
    "Plan",
    "PrefixSet",
    "PrefixShare",
    "Process",
    "Rejection",
    "RowPredictions",
    "SearchOptions",
    "Sessions",
    "SharedCluster",
    "SharedPrefixes",
    "Simulation",
    "Targets",
    "Trace",
    "Traffic",
    "UniformLength",
    "__version__",
    "capacity",
    "day",
    "predict",
    "read_clusters",
    "read_trace",
    "simulate",
    "size",
    "together",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _HOME_OF:
        raise AttributeError(f"module 'budsim' has no attribute {name!r}")
    found = getattr(import_module(_HOME_OF[name]), name)
    # Kept, so that the next use finds it without coming here.
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
