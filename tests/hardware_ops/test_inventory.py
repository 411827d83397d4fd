"""Inventories: every device is accounted for, nothing is guessed, and bad ones are refused by path."""

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.precision import Precision
from budsim.commons.units import GIB
from budsim.hardware_ops.catalog import devices
from budsim.hardware_ops.cluster import Cluster, DevicePool, HardwareMode
from budsim.hardware_ops.inventory import read_cluster_file, read_inventory

EXAMPLES = Path(__file__).parents[3] / "shared" / "examples"
H100 = {
    "name": "H100-SXM",
    "raw_name": "NVIDIA-H100-80GB-HBM3",
    "type": "cuda",
    "available_count": 8,
    "total_count": 8,
    "mem_per_GPU_in_GB": 80,
    "intra_node_bandwidth_in_GB_per_sec": 300,
    "pci_vendor": "10de",
    "pci_device": "2330",
}
XEON = {
    "name": "Intel(R) Xeon(R) Platinum 8480+",
    "type": "cpu_high",
    "available_count": 1,
    "total_count": 1,
    "cores": 112,
    "socket_count": 2,
    "memory_gb": 2048,
    "utilized_cores": 28,
    "utilized_memory_gb": 48,
}
SLICE = {
    "name": "A100-SXM4-40GB",
    "type": "cuda",
    "available_count": 1,
    "total_count": 1,
    "mem_per_GPU_in_GB": 40,
    "device_uuid": "GPU-0",
    "hardware_mode": "shared",
    "memory_allocated_gb": 10,
    "core_utilization_percent": 25,
    "cores_allocated_percent": 40,
}


def inventory(*entries: dict[str, Any], **node: Any) -> list[dict[str, Any]]:
    """Return a payload of one cluster with one node of these devices."""
    return [
        {
            "id": "c",
            "nodes": [{"id": "n", "name": "n", "status": True, **node, "devices": list(entries)}],
        }
    ]


def only_pool(entry: dict[str, Any], **node: Any) -> DevicePool:
    """Return the pool of a node with one device entry."""
    ((_, pool),) = list(read_inventory(inventory(entry, **node))[0].pools())
    return pool


def counts(clusters: tuple[Cluster, ...]) -> list[tuple[str, int, int]]:
    """Return what each pool is called, and its total and available devices."""
    pools = [pool for cluster in clusters for _, pool in cluster.pools()]
    return [(pool.device.name if pool.device else "", pool.total, pool.available) for pool in pools]


def test_figures_come_from_the_catalog() -> None:
    """The writer's constant bandwidths are not believed."""
    pool = only_pool(H100)
    assert pool.device is devices()["H100-SXM"]
    assert (pool.total, pool.available, pool.unavailable_reason) == (8, 8, "")
    assert pool.label.raw_name == "NVIDIA-H100-80GB-HBM3"


def test_devices_in_use_by_others_are_counted_and_not_offered() -> None:
    """Three of eight are taken: eight are there, five are free, and the reason says so."""
    pool = only_pool({**H100, "available_count": 5})
    assert (pool.total, pool.available) == (8, 5)
    assert pool.unavailable_reason == "3 of 8 in use by others"


def test_an_unknown_device_stays_with_its_reason() -> None:
    """Unknown is said, never replaced by a known device."""
    pool = only_pool(
        {"name": "Frobnicator-9000", "type": "cuda", "available_count": 2, "mem_per_GPU_in_GB": 80}
    )
    assert pool.device is None
    assert (pool.total, pool.available) == (2, 0)
    assert pool.unavailable_reason == "unknown device 'Frobnicator-9000'"


@pytest.mark.parametrize(
    ("stated_gb", "meant"), [(40, "A100-40GB"), (80, "A100-80GB"), (None, "A100-40GB")]
)
def test_memory_picks_among_devices_of_one_name(stated_gb: int | None, meant: str) -> None:
    """A100 with 80 GB is the 80 GB part."""
    pool = only_pool(
        {
            "name": "NVIDIA A100",
            "type": "cuda",
            "available_count": 1,
            "mem_per_GPU_in_GB": stated_gb,
        }
    )
    assert pool.device is devices()[meant]


def test_memory_far_from_the_data_sheet_is_a_contradiction() -> None:
    """An H100 of 10 GB is a slice or a mistake: not an H100."""
    pool = only_pool({**H100, "mem_per_GPU_in_GB": 10})
    assert pool.device is None
    assert "contradictory entry" in pool.unavailable_reason


def test_pci_id_and_name_that_disagree_are_settled_by_memory_or_not_at_all() -> None:
    """T4 by name and H100 by id: 80 GB says H100; without memory nobody can say."""
    entry = {**H100, "name": "T4", "raw_name": "Tesla-T4"}
    assert only_pool(entry).device is devices()["H100-SXM"]
    assert only_pool({**entry, "mem_per_GPU_in_GB": None}).device is None


def test_a_name_the_catalog_lacks_does_not_contradict_a_known_pci_id() -> None:
    """Sellers rename boards."""
    assert (
        only_pool({**H100, "name": "Turbo 3000", "raw_name": "Turbo 3000"}).device
        is devices()["H100-SXM"]
    )


@pytest.mark.parametrize("field", ["raw_name", "device_model", "model", "name"])
def test_a_slice_is_not_the_device_its_pci_id_names(field: str) -> None:
    """A MIG slice carries the id of the whole board and a part of its memory and multiprocessors."""
    entry = {**H100, "mem_per_GPU_in_GB": None, field: "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb"}
    assert only_pool(entry).device is None
    assert "slice" in only_pool(entry).unavailable_reason


def test_an_id_several_boards_share_needs_a_name_or_memory() -> None:
    """10de:2bb3 is the RTX PRO 5000 of 48 and of 72 GB; 10de:25b6 is an A2 and a quarter of an A16."""
    entry = {
        "name": "a board",
        "pci_vendor": "10de",
        "pci_device": "2bb3",
        "type": "cuda",
        "available_count": 1,
    }
    assert only_pool({**entry, "mem_per_GPU_in_GB": 72}).device is devices()["RTX-PRO-5000-72GB"]
    assert (
        only_pool({**entry, "name": "NVIDIA RTX PRO 5000 Blackwell"}).device
        is devices()["RTX-PRO-5000"]
    )
    assert "RTX-PRO-5000 or RTX-PRO-5000-72GB" in only_pool(entry).unavailable_reason
    assert only_pool({**entry, "pci_device": "25b6", "mem_per_GPU_in_GB": 15}).device is None


def test_a_type_of_another_family_is_a_contradiction() -> None:
    """An H100 cannot be a Gaudi."""
    assert only_pool({**H100, "type": "hpu"}).device is None


def test_a_cpu_node_counts_sockets() -> None:
    """112 cores and 2048 GB on two sockets: two devices of 56 cores and 1024 GB, a quarter of the cores and 48 GB busy."""
    pool = only_pool(XEON)
    assert pool.device is not None
    assert (pool.total, pool.available) == (2, 2)
    assert pool.device.compute_units == 56
    assert pool.device.memory_bytes == 1024 * GIB
    assert pool.memory_free_bytes == 1000 * GIB
    assert pool.compute_free_share == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("missing", "sockets", "cores"),
    [(("socket_count",), 2, 56), (("cores",), 2, 56), (("cores", "socket_count"), 1, 56)],
)
def test_missing_cores_or_sockets_follow_from_the_catalog(
    missing: tuple[str, ...], sockets: int, cores: int
) -> None:
    """112 cores of a 56 core part are two sockets; two sockets of it are 112 cores."""
    pool = only_pool({key: value for key, value in XEON.items() if key not in missing})
    assert pool.device is not None
    assert (pool.total, pool.device.compute_units) == (sockets, cores)


def test_a_virtual_machine_gets_its_cores_worth_of_arithmetic() -> None:
    """14 of 56 cores compute a quarter."""
    pool = only_pool({**XEON, "cores": 14, "socket_count": 1, "utilized_cores": 0})
    whole = devices()["Xeon Platinum 8480+"]
    assert pool.device is not None
    assert pool.device.peak_flops_per_s(Precision.BF16) == pytest.approx(
        whole.peak_flops_per_s(Precision.BF16) / 4
    )


def test_a_cpu_node_without_memory_says_so() -> None:
    """Nothing can be placed where memory is not known."""
    pool = only_pool({**XEON, "memory_gb": None})
    assert pool.available == 0
    assert "memory_gb" in pool.unavailable_reason


def test_a_cpu_of_a_known_generation_and_unknown_model_is_unknown() -> None:
    """No figures are borrowed from a relative."""
    assert only_pool({**XEON, "name": "Intel(R) Xeon(R) Platinum 8480C"}).device is None


def test_a_time_sliced_device_offers_what_others_leave() -> None:
    """10 of 40 GB and 40 % of the cores are handed out."""
    payload = inventory(SLICE)
    ((_, pool),) = list(read_inventory(payload)[0].pools())
    assert read_inventory(payload)[0].mode is HardwareMode.SHARED
    assert pool.memory_free_bytes == 30 * GIB
    assert pool.compute_free_share == pytest.approx(0.6)
    assert pool.device_uuid == "GPU-0"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"memory_allocated_gb": None}, "memory_allocated_gb"),
        (
            {"core_utilization_percent": None, "cores_allocated_percent": None},
            "cores_allocated_percent",
        ),
        ({"memory_allocated_gb": 41}, "hold all"),
        ({"cores_allocated_percent": 120}, "hold all"),
    ],
)
def test_a_time_sliced_device_that_cannot_be_used_says_why(
    change: dict[str, Any], word: str
) -> None:
    """No load, no offer."""
    pool = only_pool({**SLICE, **change})
    assert (pool.total, pool.available) == (1, 0)
    assert word in pool.unavailable_reason


def test_down_nodes_and_masters_stay_in_the_count() -> None:
    """A node that is down has devices, none of them free; a master is marked and left to whoever places."""
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
                ("Xeon 6972P", 2, 2),
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
def test_the_examples_of_the_contract_read(file: str, expected: list[tuple[str, int, int]]) -> None:
    """Callers' own inventories, device by device."""
    assert counts(read_cluster_file(EXAMPLES / file)) == expected


def set_at(path: str, value: object) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change that writes ``value`` at a path below the payload, such as ``0.nodes.0.name``."""

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
    """The caller can go to the very field: its entry is unusable for that reason, other clusters are read as ever."""
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
    """A negative count beside good devices of one node: those are offered, and the bad one keeps its name."""
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
    """The contract's inventory is a list with at least one cluster that can be read."""
    with pytest.raises(InvalidInput, match="clusters"):
        read_inventory(payload)


def test_a_cluster_may_be_empty() -> None:
    """A cluster without nodes and a node without devices are there, with nothing to use."""
    empty, bare = read_inventory(
        [{"id": "a", "nodes": []}, {"id": "b", "nodes": [{"name": "n", "devices": []}]}]
    )
    assert empty.nodes == ()
    assert bare.nodes[0].pools == ()


def test_nothing_is_listed_twice() -> None:
    """A cluster, node or device named twice would be counted twice: the second is unusable and says where the first is."""
    one, other = inventory(SLICE), inventory(H100)
    other[0]["id"] = "d"
    for payload, path in (
        (one + inventory(H100), "clusters[1].id"),
        (one + other, "clusters[1].nodes[0].id"),
        (inventory(SLICE, SLICE), "clusters[0].nodes[0].devices[1].device_uuid"),
    ):
        first, second = (pool for cluster in read_inventory(payload) for _, pool in cluster.pools())
        assert first.available == 1
        assert second.available == 0
        assert second.unavailable_reason.startswith(f"{path}: is ")
        assert "once" in second.unavailable_reason


def test_a_type_nobody_knows_is_a_contradiction() -> None:
    """An H100 of type quantum cannot be deployed as either."""
    pool = only_pool({**H100, "type": "quantum"})
    assert pool.device is None
    assert "quantum" in pool.unavailable_reason
    assert "cuda" in pool.unavailable_reason


def test_a_missing_type_follows_from_the_device() -> None:
    """Callers deploy by type: where the inventory leaves it out, the catalog's is echoed."""
    assert (
        only_pool({key: value for key, value in H100.items() if key != "type"}).label.wire_type
        == "cuda"
    )


SHORT = """
clusters:
  - name: lab
    nodes:
      - name: gpu
        count: 2
        devices:
          - {device: H100-SXM, count: 8, available: 6}
          - {device: Xeon Platinum 8480+, sockets: 2, memory_gb: 2048}
      - {name: head, master: true, devices: [{device: Xeon Silver 4314}]}
      - {name: broken, down: true, devices: [{device: Gaudi3, count: 8}]}
      - {name: odd, devices: [{device: Frobnicator-9000, count: 2}]}
"""


def test_the_short_form_reads_as_the_inventory_does(tmp_path: Path) -> None:
    """Two H100 nodes with their sockets, a master, a node that is down and an unknown device."""
    file = tmp_path / "lab.yaml"
    file.write_text(SHORT)
    clusters = read_cluster_file(file)
    node = [("H100-SXM", 8, 6), ("Xeon Platinum 8480+", 2, 2)]
    assert counts(clusters) == [
        *node,
        *node,
        ("Xeon Silver 4314", 1, 1),
        ("Gaudi3", 8, 0),
        ("", 2, 0),
    ]
    assert [node.name for node in clusters[0].nodes] == ["gpu-0", "gpu-1", "head", "broken", "odd"]
    assert clusters[0].nodes[2].is_master
    assert read_cluster_file(file) == clusters


def test_the_short_form_and_the_inventory_give_the_same_pools(tmp_path: Path) -> None:
    """What a person writes and what the writer sends mean the same hardware."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "clusters: [{name: c, nodes: [{name: n, devices: [{device: H100-SXM, count: 8}]}]}]"
    )
    (_, short), (_, long) = (
        next(read_cluster_file(file)[0].pools()),
        next(read_inventory(inventory(H100))[0].pools()),
    )
    assert (short.device, short.total, short.available, short.memory_free_bytes) == (
        long.device,
        long.total,
        long.available,
        long.memory_free_bytes,
    )


def test_an_inventory_may_be_kept_as_yaml(tmp_path: Path) -> None:
    """JSON written to a YAML file is the same inventory."""
    file = tmp_path / "inventory.yaml"
    file.write_text(json.dumps(inventory(H100, XEON)))
    assert read_cluster_file(file) == read_inventory(inventory(H100, XEON))


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("", "clusters"),
        ("clusters: []", "clusters"),
        ("cluster: []", "cluster"),
        ("clusters: [{name: a, nodes: [{name: n, device: []}]}]", "clusters[0].nodes[0].device"),
        (
            "clusters: [{name: a, nodes: [{name: n, devices: [{device: L4, cuont: 2}]}]}]",
            "clusters[0].nodes[0].devices[0].cuont",
        ),
        (
            "clusters: [{name: a, nodes: [{name: n, devices: [{device: L4, count: -1}]}]}]",
            "clusters[0].nodes[0].devices[0].count",
        ),
        (
            "clusters: [{name: a, nodes: [{name: n, devices: [{device: L4, cores: 4}]}]}]",
            "clusters[0].nodes[0].devices[0].cores",
        ),
        (
            "clusters: [{name: a, nodes: [{name: n, count: 0, devices: [{device: L4}]}]}]",
            "clusters[0].nodes[0].count",
        ),
        ("clusters: [{nodes: [{name: n, devices: [{device: L4}]}]}]", "clusters[0].name"),
        ("clusters: [", "cluster"),
        ("a: &a [*a]", "a"),
    ],
)
def test_a_bad_short_form_is_named_by_its_path(text: str, field: str, tmp_path: Path) -> None:
    """Typing mistakes are found, not skipped."""
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(InvalidInput) as caught:
        read_cluster_file(file)
    assert caught.value.field == field


def test_files_that_cannot_be_read_are_said_to_be(tmp_path: Path) -> None:
    """Missing, a folder, binary, broken JSON: one line each."""
    with pytest.raises(NotFound):
        read_cluster_file(tmp_path / "nowhere.yaml")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name in ("", "binary.json", "deep.json"):
        with pytest.raises(InvalidInput):
            read_cluster_file(tmp_path / name)


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


@settings(max_examples=300)
@given(payload=payloads | device_entries.map(inventory))
def test_anything_either_reads_or_is_refused(payload: object) -> None:
    """Whatever JSON a caller sends, the answer is clusters whose counts add up, or InvalidInput with a path into it."""
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
    """Law L12: what is free and what is not add up to what came in, known or not, up or down."""
    entry = {
        "name": name,
        "type": "cuda",
        "available_count": available,
        "total_count": available + taken,
    }
    pool = only_pool(entry, status=is_up)
    assert pool.total == available + taken
    assert pool.available == (available if is_up and name == "L4" else 0)
