"""Which values are worth trying."""

from budsim.simulator.planning.choices import replica_counts


def test_replica_counts_that_change_nothing_are_not_tried():
    """Ten requests on up to eight replicas: 6, 7 and 8 replicas serve two each like 5 do."""
    assert replica_counts(10, 8) == [1, 2, 3, 4, 5]
    assert replica_counts(10, 20) == [1, 2, 3, 4, 5, 10]
    assert replica_counts(10, 0) == []
