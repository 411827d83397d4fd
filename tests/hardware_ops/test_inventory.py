"""Inventories: every device is counted, none is guessed, errors name the path."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.cluster_file import read_cluster_file
from budsim.hardware_ops.inventory import read_inventory
from tests.hardware_ops.inventories import H100, SLICE, XEON, counts, inventory, only_pool

EXAMPLES = Path(__file__).parents[3] / "shared" / "examples"


def test_down_nodes_and_masters_stay_in_the_count() -> None:
    """The devices of a node that is down are not free; a master is marked and left to placement."""
    down = only_pool(H100, status=False)
    assert (down.total, down.available, down.unavailable_reason) == (8, 0, "node is down")
    node = read_inventory(inventory(XEON, is_master=True))[0].nodes[0]
    assert node.is_master
    assert node.pools[0].available == 2


@pytest.mark.skipif(not EXAMPLES.is_dir(), reason="the shared examples are not in this checkout")
@pytest.mark.parametrize(
    ("file", "expected"),
    [
        (
            "lab.json",
            [
                ("Xeon Silver 4314", 1, 1),
                ("H100-SXM", 8, 8),
                ("Xeon Platinum 8480+", 2, 2),
                ("H100-SXM", 8, 8),
                ("Gaudi3", 8, 8),
                ("Xeon 6972P NUMA node", 6, 6),
                ("EPYC 9654", 2, 2),
                ("H100-SXM", 8, 0),
            ],
        ),
        (
            "mixed.json",
            [
                ("A100-80GB", 4, 4),
                ("T4", 2, 2),
                ("L40S", 4, 4),
                ("MI300X", 8, 8),
                ("", 2, 0),
                ("L4", 1, 1),
            ],
        ),
        ("time_sliced.json", [("A100-40GB", 1, 1)] * 4),
    ],
)
def test_the_examples_read(file: str, expected: list[tuple[str, int, int]]) -> None:
    """Callers' own inventories, device by device."""
    assert counts(read_cluster_file(EXAMPLES / file)) == expected


def set_at(path: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change that writes ``value`` at a path such as ``0.nodes.0.name``."""

    def change(payload: list[dict[str, Any]]) -> None:
        *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
        place: Any = payload
        for part in parents:
            place = place[part]
        place[last] = value

    return change


DEVICE = "0.nodes.0.devices.0."


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (set_at(DEVICE + "available_count", -1), "clusters[0].nodes[0].devices[0].available_count"),
        (
            set_at(DEVICE + "available_count", float("nan")),
            "clusters[0].nodes[0].devices[0].available_count",
        ),
        (
            set_at(DEVICE + "available_count", "8"),
            "clusters[0].nodes[0].devices[0].available_count",
        ),
        (
            set_at(DEVICE + "available_count", True),
            "clusters[0].nodes[0].devices[0].available_count",
        ),
        (
            set_at(DEVICE + "available_count", 1.5),
            "clusters[0].nodes[0].devices[0].available_count",
        ),
        (set_at(DEVICE + "available_count", 9), "clusters[0].nodes[0].devices[0].available_count"),
        (
            set_at(DEVICE + "available_count", None),
            "clusters[0].nodes[0].devices[0].available_count",
        ),
        (set_at(DEVICE + "total_count", 10**400), "clusters[0].nodes[0].devices[0].total_count"),
        (
            set_at(DEVICE + "mem_per_GPU_in_GB", -80),
            "clusters[0].nodes[0].devices[0].mem_per_GPU_in_GB",
        ),
        (
            set_at(DEVICE + "mem_per_GPU_in_GB", float("inf")),
            "clusters[0].nodes[0].devices[0].mem_per_GPU_in_GB",
        ),
        (
            set_at(DEVICE + "mem_per_GPU_in_GB", "80"),
            "clusters[0].nodes[0].devices[0].mem_per_GPU_in_GB",
        ),
        (
            set_at(DEVICE + "hardware_mode", "sometimes"),
            "clusters[0].nodes[0].devices[0].hardware_mode",
        ),
        (set_at(DEVICE + "raw_name", 7), "clusters[0].nodes[0].devices[0].raw_name"),
        (
            set_at("0.nodes.0.devices", [{"available_count": 1}]),
            "clusters[0].nodes[0].devices[0].name",
        ),
        (set_at("0.nodes.0.devices", None), "clusters[0].nodes[0].devices"),
        (set_at("0.nodes.0.devices.0", "H100"), "clusters[0].nodes[0].devices[0]"),
        (set_at("0.nodes.0.status", "up"), "clusters[0].nodes[0].status"),
        (set_at("0.nodes.0", {"devices": []}), "clusters[0].nodes[0].name"),
        (set_at("0.nodes", {}), "clusters[0].nodes"),
        (set_at("0.id", ""), "clusters[0].id"),
        (set_at("0.id", 3), "clusters[0].id"),
    ],
)
def test_a_bad_field_is_named_by_its_path_and_takes_nothing_else_away(
    change: Callable[[list[dict[str, Any]]], None], field: str
) -> None:
    """The bad entry is unusable and says why; the other clusters are read as before."""
    other = [{"id": "other", "nodes": [{"name": "fine", "devices": [H100]}]}]
    payload = copy.deepcopy(inventory(H100)) + other
    change(payload)
    clusters = read_inventory(payload)
    reasons = [pool.unavailable_reason for _, pool in clusters[0].pools()]
    assert len(reasons) == 1
    assert reasons[0].startswith(f"{field}: ")
    assert "; expected " in reasons[0]
    assert [(pool.total, pool.available) for _, pool in clusters[0].pools()] == [(0, 0)]
    assert [pool.available for _, pool in clusters[1].pools()] == [8]


def test_a_bad_entry_leaves_its_neighbours_alone() -> None:
    """A negative count hides only its own device: the good ones of the node are offered."""
    pools = (
        read_inventory(inventory({**H100, "available_count": -1}, {**H100, "available_count": 3}))[
            0
        ]
        .nodes[0]
        .pools
    )
    assert [(pool.label.name, pool.available, pool.unavailable_reason != "") for pool in pools] == [
        (H100["name"], 0, True),
        (H100["name"], 3, True),
    ]


@pytest.mark.parametrize(
    "payload", [None, [], {}, "clusters", 3, [None], [[]], [{"nodes": 3}], [{"id": ""}, 7]]
)
def test_what_holds_no_cluster_is_refused(payload: object) -> None:
    """An inventory is a list with at least one cluster that can be read."""
    with pytest.raises(InvalidInput, match="clusters"):
        read_inventory(payload)


def test_a_cluster_may_be_empty() -> None:
    """A cluster without nodes and a node without devices are there, with nothing to use."""
    empty, bare = read_inventory(
        [{"id": "a", "nodes": []}, {"id": "b", "nodes": [{"name": "n", "devices": []}]}]
    )
    assert empty.nodes == ()
    assert bare.nodes[0].pools == ()


FIELDS = [*H100, *XEON, *SLICE, "memory_utilization_percent", "count", "threads", "model"]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
device_entries = st.builds(
    lambda base, changes: {**base, **changes},
    st.sampled_from([H100, XEON, SLICE, {}]),
    st.dictionaries(st.sampled_from(FIELDS), anything, max_size=3),
)
payloads = anything | st.lists(
    st.fixed_dictionaries(
        {"id": st.text(max_size=3) | anything},
        optional={
            "name": anything,
            "nodes": anything
            | st.lists(
                st.fixed_dictionaries(
                    {"id": st.text(min_size=1, max_size=3)},
                    optional={
                        "status": st.booleans() | anything,
                        "is_master": st.booleans(),
                        "devices": st.lists(device_entries, max_size=3) | anything,
                    },
                ),
                max_size=3,
            ),
        },
    ),
    max_size=2,
)


def read_or_refused(payload: object) -> tuple[Cluster, ...] | str:
    """Return the clusters of a payload, or the field it was refused for."""
    try:
        return read_inventory(payload)
    except InvalidInput as refused:
        return refused.field


@settings(max_examples=100)
@given(payload=payloads | device_entries.map(inventory))
@example(payload=inventory(H100 | {"available_count": 7}))
@example(payload=inventory(H100 | {"available_count": 9}))
def test_anything_either_reads_or_is_refused(payload: object) -> None:
    """Any JSON gives clusters whose counts add up, or InvalidInput with a path into it."""
    clusters = read_or_refused(payload)
    if isinstance(clusters, str):
        assert clusters.startswith("clusters")
        return
    for _, pool in (pair for cluster in clusters for pair in cluster.pools()):
        assert 0 <= pool.available <= pool.total
        assert pool.available == pool.total or pool.unavailable_reason
        assert pool.device is not None or pool.available == 0
        assert 0 <= pool.compute_free_share <= 1
        assert pool.memory_free_bytes >= 0


@settings(max_examples=100)
@given(
    available=st.integers(0, 16),
    taken=st.integers(0, 16),
    is_up=st.booleans(),
    name=st.sampled_from(["L4", "Frobnicator"]),
)
def test_every_device_that_enters_is_counted(
    available: int, taken: int, is_up: bool, name: str
) -> None:
    """What is free and what is not add up to what came in, known or not, up or down."""
    entry = {
        "name": name,
        "type": "cuda",
        "available_count": available,
        "total_count": available + taken,
    }
    pool = only_pool(entry, status=is_up)
    assert pool.total == available + taken
    assert pool.available == (available if is_up and name == "L4" else 0)
