"""The commands of a plan: devices, ports and how several processes meet."""

import json

from budsim.simulator.rendering import render
from tests.simulator.rendering.reading import TWO_NODES, commands_of, flags_of
from tests.simulator.situations import make_cluster, make_question


def test_replicas_on_one_node_share_neither_devices_nor_ports(layout):
    """Two replicas of two GPUs on a node: devices 0-1 and 2-3, ports apart.

    A third on another node starts anew.
    """
    text = render(layout("cuda", "vllm", {"a": 2}, {"a": 2}, {"b": 2}), "command")
    words = commands_of(text)
    assert [each[0] for each in words] == [
        "CUDA_VISIBLE_DEVICES=0,1",
        "CUDA_VISIBLE_DEVICES=2,3",
        "CUDA_VISIBLE_DEVICES=0,1",
    ]
    assert [flags_of(each)["port"] for each in words] == [8000, 8100, 8000]
    assert "g1-r3 on b" in text


def test_replicas_on_one_host_are_bound_to_sockets_of_their_own(layout):
    """One replica a socket: the second is bound behind the 56 cores of the first."""
    words = commands_of(render(layout("cpu", "vllm", {"a": 1}, {"a": 1}), "command"))
    bindings = [
        next(word for word in each if word.startswith("VLLM_CPU_OMP_THREADS_BIND"))
        for each in words
    ]
    assert bindings == ["VLLM_CPU_OMP_THREADS_BIND=0-55", "VLLM_CPU_OMP_THREADS_BIND=56-111"]


def test_device_types_of_one_node_are_told_apart(document):
    """A node's A100 are devices 0 and 1, its H100 is device 2, in whatever order."""
    cluster = make_cluster((("A100-SXM4-80GB", 2), ("H100-SXM", 1)))
    answered = document(make_question(cluster, analytic_only=True))
    shown = {
        plan["node_groups"][0]["name"]: commands_of(
            render(json.dumps({"node_groups": plan["node_groups"][:1]}), "command")
        )[0][0]
        for plan in reversed(answered["configurations"])
    }
    assert shown["H100-SXM"] == "CUDA_VISIBLE_DEVICES=2"
    assert shown["A100-SXM4-80GB"].startswith("CUDA_VISIBLE_DEVICES=0")


def test_vllm_over_two_nodes_meets_at_the_first(layout):
    """The worker is headless, both name the leader, and only the leader answers requests."""
    leader, worker = (
        flags_of(words)
        for words in commands_of(render(layout("cuda", "vllm", TWO_NODES), "command"))
    )
    shared = {"nnodes": 2, "master-addr": "a", "master-port": 29500}
    assert (
        {name: leader[name] for name in shared} == {name: worker[name] for name in shared} == shared
    )
    assert (leader["node-rank"], worker["node-rank"]) == (0, 1)
    assert "headless" not in leader
    assert worker["headless"] is True


def test_sglang_over_two_nodes_meets_at_the_first(layout):
    """Both name the leader's address and their rank."""
    found = [
        flags_of(words)
        for words in commands_of(render(layout("cuda", "sglang", TWO_NODES), "command"))
    ]
    assert [(each["nnodes"], each["node-rank"], each["dist-init-addr"]) for each in found] == [
        (2, 0, "a:29500"),
        (2, 1, "a:29500"),
    ]
