"""Cluster files: the short form, and inventories kept as files."""

import json
from pathlib import Path

import pytest

from budsim.commons.errors import InvalidInput, NotFound
from budsim.commons.units import GIB
from budsim.hardware_ops.cluster_file import read_cluster_file
from budsim.hardware_ops.inventory import read_inventory
from tests.hardware_ops.inventories import H100, XEON, counts, inventory

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


@pytest.mark.parametrize("text", ["[" * 100_000, "- " * 50_000, "{a: " * 100_000])
@pytest.mark.parametrize("name", ["deep.yaml", "deep.json"])
def test_a_file_nested_very_deep_is_refused(tmp_path: Path, name: str, text: str):
    """Libyaml would end the process; the error names the file."""
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(InvalidInput, match="deep"):
        read_cluster_file(file)


def test_a_node_may_be_an_instance_type(tmp_path: Path) -> None:
    """Two p5.48xlarge are two nodes of 8 H100; a processor instance has its sockets and memory."""
    file = tmp_path / "cloud.yaml"
    nodes = "[{instance: p5.48xlarge, count: 2}, {name: cpu, instance: m8g.48xlarge}]"
    file.write_text(f"clusters: [{{name: cloud, nodes: {nodes}}}]")
    (cluster,) = read_cluster_file(file)
    assert [node.name for node in cluster.nodes] == ["p5.48xlarge-0", "p5.48xlarge-1", "cpu"]
    assert counts((cluster,)) == [("H100-SXM", 8, 8), ("H100-SXM", 8, 8), ("Graviton4", 2, 2)]
    socket = cluster.nodes[2].pools[0].device
    assert socket is not None
    assert (socket.compute_units, socket.memory_bytes) == (96, 384 * GIB)


@pytest.mark.parametrize(
    ("node", "field"),
    [
        ("{instance: p9.large}", "instance"),
        ("{instance: p5.48xlarge, devices: [{device: T4}]}", "instance"),
        ("{count: 2}", "name"),
    ],
)
def test_a_wrong_instance_is_named(node: str, field: str, tmp_path: Path) -> None:
    """An unknown type, a type beside devices, and neither."""
    file = tmp_path / "cloud.yaml"
    file.write_text(f"clusters: [{{name: cloud, nodes: [{node}]}}]")
    with pytest.raises(InvalidInput) as refused:
        read_cluster_file(file)
    assert refused.value.field == f"clusters[0].nodes[0].{field}"


@pytest.mark.parametrize(
    ("words", "nodes"),
    [("", 6), (", numa_nodes: 2", 2), (", cores: 96, numa_nodes: 6", 6)],
)
def test_a_processor_has_the_numa_nodes_of_its_default_mode(
    tmp_path: Path, words: str, nodes: int
) -> None:
    """Two sockets of a Xeon 6900P are six nodes; a file can say what ``lscpu`` prints instead."""
    file = tmp_path / "one.yaml"
    device = f"{{device: Xeon 6972P, sockets: 2, memory_gb: 768{words}}}"
    file.write_text(f"clusters: [{{name: c, nodes: [{{name: n, devices: [{device}]}}]}}]")
    (_, pool) = next(read_cluster_file(file)[0].pools())
    assert (pool.total, pool.available) == (nodes, nodes)
    assert pool.memory_free_bytes == 768 / nodes * GIB


@pytest.mark.parametrize("nodes", [3, 7, 999])
def test_numa_nodes_divide_among_sockets(tmp_path: Path, nodes: int) -> None:
    """Two sockets have 2, 4, ... 32 nodes, or one that holds both."""
    file = tmp_path / "one.yaml"
    device = f"{{device: Xeon Platinum 8592+, sockets: 2, memory_gb: 1024, numa_nodes: {nodes}}}"
    file.write_text(f"clusters: [{{name: c, nodes: [{{name: n, devices: [{device}]}}]}}]")
    with pytest.raises(InvalidInput, match=r"numa_nodes.*a multiple of the 2 sockets, at most 16"):
        read_cluster_file(file)
