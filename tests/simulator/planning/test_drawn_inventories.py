"""Laws of answers on inventories that are drawn at random."""

from collections import Counter

from hypothesis import example, given, settings
from hypothesis import strategies as st

from budsim.hardware_ops.cluster import Cluster, DevicePool, HardwareMode, Node
from budsim.hardware_ops.device import DeviceKind
from budsim.performance.predictor import AnalyticPredictor
from budsim.simulator.searching import simulate
from tests.simulator.situations import devices_used, make_cluster, make_pool, make_question

TOSS_UP = 0.02
"""Costs are told apart to 1 % by the search, and to 1 % by taste, which decides below (L22)."""
SEVENTY = "meta-llama/Llama-3.1-70B-Instruct"
NAMES = ("H100-SXM", "L40S", "T4", "Gaudi3", "Xeon 6972P", "Frobnicator-9000")
NODES = st.lists(
    st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 8)), max_size=2).map(tuple),
    max_size=4,
)
MODELS = st.sampled_from(
    ("meta-llama/Llama-3.1-8B-Instruct", SEVENTY, "mistralai/Mixtral-8x7B-Instruct-v0.1")
)
LEFT = st.sampled_from((0.0, 0.2, 0.55, 1.0))


@st.composite
def clusters(draw: st.DrawFn) -> Cluster:
    """Return nodes as they come: some down, some masters.

    Devices of which some are busy, or time-sliced ones with less left.
    """
    mode = draw(st.sampled_from(HardwareMode))
    nodes = []
    for number, pools in enumerate(draw(NODES)):
        made = [piece for name, total in pools for piece in draw(pieces(name, total, mode))]
        nodes.append(
            Node(
                node_id=f"n{number}",
                name=f"node-{number}",
                pools=tuple(made),
                is_up=draw(st.booleans()),
                is_master=draw(st.booleans()),
            )
        )
    return Cluster(cluster_id="lab", name="lab", nodes=tuple(nodes), mode=mode)


@st.composite
def pieces(draw: st.DrawFn, name: str, total: int, mode: HardwareMode) -> list[DevicePool]:
    """Return devices of one type.

    A pool of which some are busy, or one entry for each with a share of it left.
    """
    if mode is HardwareMode.DEDICATED:
        return [make_pool(name, total, available=draw(st.integers(0, total)))]
    whole = make_pool(name, 1).memory_free_bytes
    return [
        make_pool(name, 1, memory_free_bytes=draw(LEFT) * whole, compute_free_share=draw(LEFT))
        for _ in range(total)
    ]


def offered(cluster: Cluster) -> dict[tuple[str, int], int]:
    """Return how many devices of each pool replicas may use, by node and number of the pool.

    Worked out pool by pool.
    """
    found = {}
    for node in cluster.nodes:
        for number, pool in enumerate(node.pools):
            is_cpu = pool.device is not None and pool.device.kind is DeviceKind.CPU
            is_left = pool.memory_free_bytes > 0 and pool.compute_free_share > 0
            if pool.device and node.is_up and is_left and not (is_cpu and node.is_master):
                found[node.node_id, number] = pool.available
    return found


@settings(max_examples=40)
@given(
    cluster=clusters(),
    model=MODELS,
    concurrency=st.integers(1, 500),
    ttft_s=st.sampled_from((None, 1e-4, 0.3, 5.0)),
)
def test_every_question_is_answered_and_every_device_accounted_for(
    cluster, model, concurrency, ttft_s
):
    """L10: at least one plan or one reason. L12.

    Every device that enters is used, idle or rejected, and the counts add up.

    L8, of every plan, mixes too: no device is in two replicas, none is one that may not be used,
    and no tensor-parallel group crosses nodes.
    """
    wishes = {
        "model": model,
        "concurrency": concurrency,
        "analytic_only": True,
        "targets": {"ttft_s": ttft_s},
    }
    outcome = simulate(make_question(cluster, mode=cluster.mode, **wishes), AnalyticPredictor())
    assert outcome.plans or outcome.rejections
    pools = {
        (node.node_id, number): pool
        for node in cluster.nodes
        for number, pool in enumerate(node.pools)
    }
    free = offered(cluster)
    served = {group.config.device.name for plan in outcome.plans for group in plan.groups}
    used_or_idle = sum(count for where, count in free.items() if pools[where].device.name in served)
    assert sum(pool.total for pool in pools.values()) == used_or_idle + sum(
        each.devices for each in outcome.rejections
    )
    for plan in outcome.plans:
        used = devices_used(plan)
        assert used.total() == plan.devices
        assert all(count <= free.get(where, 0) for where, count in used.items())
        for group in plan.groups:
            assert all(
                pools[part.node_id, part.pool].device.name == group.config.device.name
                for replica in group.placements
                for part in replica
            )
            for replica in group.placements:
                on_node = Counter({part.node_id: 0 for part in replica})
                for part in replica:
                    on_node[part.node_id] += part.devices
                assert on_node.total() == group.config.tp * group.config.pp
                assert all(devices % group.config.tp == 0 for devices in on_node.values())


TARGETS = st.fixed_dictionaries(
    {
        "ttft_s": st.sampled_from((None, 0.1, 0.3, 1.0)),
        "tokens_per_s_per_user": st.sampled_from((None, 20.0, 40.0, 60.0)),
    }
)


@settings(max_examples=8)
@given(
    nodes=NODES,
    extra=st.tuples(st.sampled_from(NAMES), st.integers(1, 8)),
    targets=TARGETS,
    concurrency=st.integers(1, 500),
)
def test_another_node_never_worsens_the_best_plan(nodes, extra, targets, concurrency):
    """L9.

    Adding a node never makes the best plan miss, miss by more, or cost more than a toss-up.
    """
    smaller, larger = make_cluster(*nodes), make_cluster(*nodes, (extra,))
    wishes = {"analytic_only": True, "targets": targets, "concurrency": concurrency}
    before, after = (
        simulate(make_question(c, **wishes), AnalyticPredictor()).plans for c in (smaller, larger)
    )
    if before:
        assert after[0].error_rate <= 1.02 * before[0].error_rate
        if before[0].meets_targets:
            assert (
                after[0].cost_per_million_tokens_usd
                <= (1 + TOSS_UP) * before[0].cost_per_million_tokens_usd
            )


@settings(max_examples=8)
@given(nodes=NODES, targets=TARGETS, concurrency=st.integers(1, 500), easing=st.floats(1.0, 5.0))
@example(
    nodes=[(("H100-SXM", 1), ("Gaudi3", 1))],
    targets={"ttft_s": 1.0, "tokens_per_s_per_user": None},
    concurrency=339,
    easing=2.0,
)
def test_easier_targets_never_lose_a_plan(nodes, targets, concurrency, easing):
    """L14.

    Lowering a target never makes an accepted plan rejected, nor the best plan dearer than a
    toss-up.
    """
    ttft_s, rate = targets["ttft_s"], targets["tokens_per_s_per_user"]
    lower = {"ttft_s": ttft_s and ttft_s * easing, "tokens_per_s_per_user": rate and rate / easing}
    wishes = {"analytic_only": True, "concurrency": concurrency}
    strict, eased = (
        simulate(
            make_question(make_cluster(*nodes), targets=each, **wishes), AnalyticPredictor()
        ).plans
        for each in (targets, lower)
    )
    if strict and strict[0].meets_targets:
        assert eased[0].meets_targets
        assert (
            eased[0].cost_per_million_tokens_usd
            <= (1 + TOSS_UP) * strict[0].cost_per_million_tokens_usd
        )
