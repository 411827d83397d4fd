"""Clusters and questions of real devices and models, small enough to reason about."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device_names import find_device
from budsim.model_ops.registry import resolve_model
from budsim.performance.candidates import Candidates
from budsim.performance.predictions import MemoryUse, Predictions
from budsim.performance.predictor import AnalyticPredictor
from budsim.performance.serving.replay.answers import ReplayedService
from budsim.performance.traffic import Traffic
from budsim.simulator.planning.answer import answer
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.question import Question
from budsim.simulator.planning.targets import Targets

Pools = tuple[tuple[str, int], ...]
MODEL = "meta-llama/Llama-3.1-8B-Instruct"


def make_pool(name: str, total: int, **changes: object) -> DevicePool:
    """Return a pool of catalog devices; a name the catalog lacks makes one of unknown devices."""
    device = find_device(name)
    label = DeviceLabel(
        name=name,
        raw_name=name,
        device_model=name,
        wire_type=str(device.kind) if device else "cuda",
    )
    values = {
        "available": total,
        "memory_free_bytes": device.memory_bytes if device else 0.0,
    } | changes
    return DevicePool(device=device, label=label, total=total, **values)


def make_cluster(*nodes: Pools, cluster_id: str = "lab", **changes: object) -> Cluster:
    """Return a cluster of nodes with these pools."""
    made = (
        Node(
            node_id=f"n{number}",
            name=f"node-{number}",
            pools=tuple(make_pool(name, count) for name, count in pools),
        )
        for number, pools in enumerate(nodes)
    )
    return Cluster(cluster_id=cluster_id, name=cluster_id, nodes=tuple(made), **changes)


def make_question(*clusters: Cluster, model: str = MODEL, **changes: object) -> Question:
    """Return a question about 32 requests of 512 + 128 tokens without targets, changed as told."""
    traffic = {
        name: changes.pop(name, value)
        for name, value in (("input_tokens", 512), ("output_tokens", 128), ("concurrency", 32))
    }
    targets = Targets(**changes.pop("targets", {}))
    changes.setdefault("chance", 0.0)  # laws of the search are stated for the best estimates
    return Question(
        architecture=resolve_model(model),
        traffic=Traffic.closed(**traffic),
        targets=targets,
        clusters=clusters,
        **changes,
    )


def devices_used(plan: Plan) -> Counter[tuple[str, int]]:
    """Return how many devices of each pool a plan uses, by node and number of the pool."""
    used: Counter[tuple[str, int]] = Counter()
    for part in (part for group in plan.groups for replica in group.placements for part in replica):
        used[part.node_id, part.pool] += part.devices
    return used


def time_sliced() -> Cluster:
    """Four time-sliced A100 of one node: two free, one nearly full, one in between.

    The one in between has 40 % of its time and 12.5 of 40 GiB taken.
    """
    whole = find_device("A100-SXM4-40GB").memory_bytes
    taken = ((0.0, 0.0), (0.0, 0.0), (0.4, 0.3125), (0.85, 0.75))
    pools = tuple(
        make_pool(
            "A100-SXM4-40GB",
            1,
            memory_free_bytes=whole * (1 - memory),
            compute_free_share=1 - compute,
            device_uuid=f"GPU-{k}",
        )
        for k, (compute, memory) in enumerate(taken)
    )
    node = Node(node_id="s0", name="slice-0", pools=pools)
    return Cluster(cluster_id="sliced", name="sliced", nodes=(node,), mode=HardwareMode.SHARED)


class CountingPredictor:
    """The analytic model, remembering how many candidates it was asked about in each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def predict(self, candidates: Candidates) -> tuple[MemoryUse, Predictions]:
        """Predict as `AnalyticPredictor` does."""
        self.calls.append(len(candidates))
        return AnalyticPredictor().predict(candidates)

    def predict_traffic(
        self, candidates: Candidates, traffic: Sequence[Traffic | None], **options: Any
    ) -> tuple[MemoryUse, Predictions, ReplayedService]:
        """Replay as `AnalyticPredictor` does."""
        self.calls.append(len(candidates))
        return AnalyticPredictor().predict_traffic(candidates, traffic, **options)


def ask(question: Question) -> Outcome:
    """Answer with the analytic model."""
    return answer(question, AnalyticPredictor())
