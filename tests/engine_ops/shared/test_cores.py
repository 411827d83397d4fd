"""Cores of the ranks of a CPU replica."""

from __future__ import annotations

from budsim.engine_ops.base import ReplicaProcess
from budsim.engine_ops.shared.cores import bind_cores, core_ranges, thread_ranges
from tests.engine_ops.samples import replica


def test_each_rank_begins_at_the_first_core_of_its_socket() -> None:
    """28 of 56 cores on sockets 0 and 1."""
    assert core_ranges(range(2), 28, 56) == ("0-27", "56-83")
    assert thread_ranges(replica("Xeon Platinum 8480+", tp=2, cores=28)) == "0-27|56-83"


def test_unknown_cores_are_left_to_the_engine() -> None:
    """No number of cores: no ranges, and the engine's own choice."""
    assert core_ranges(range(2), 0, 56) == ()
    assert thread_ranges(replica("Xeon Platinum 8480+", cores=0)) == "auto"


def test_a_process_gets_its_own_cores_only_where_some_were_bound() -> None:
    """The variable is replaced, never added."""
    process = ReplicaProcess(port=8000, cores=("56-83",))
    assert bind_cores({"V": "0-27|56-83"}, "V", process) == {"V": "56-83"}
    assert bind_cores({}, "V", process) == {}
    assert bind_cores({"V": "auto"}, "V", ReplicaProcess(port=8000)) == {"V": "auto"}
