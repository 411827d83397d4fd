"""A question as an agent spells it, and the values it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, Field, model_validator

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster_file import clusters_in
from budsim.simulator.wire.model_loads import ModelDay, ModelLoad

if TYPE_CHECKING:
    from budsim.hardware_ops.cluster import Cluster

MOST_GROUPS = 100
EXAMPLE = '{"name": "gpu", "count": 2, "devices": [{"device": "H100-SXM", "count": 8}]}'

Nodes = Annotated[
    list[dict[str, Any]],
    Field(
        min_length=1,
        max_length=MOST_GROUPS,
        description="groups of equal machines in the short form of cluster files, such as "
        f'{EXAMPLE} or a cloud instance: {{"instance": "p5.48xlarge", "count": 2}}',
    ),
]


class Machines(BaseModel):
    """The machines that are to serve a load."""

    nodes: Nodes

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The machines as one cluster; errors as `clusters_of`."""
        return clusters_of(self.nodes)


class Question(ModelLoad, Machines):
    """A load, and the machines that are to serve it."""


class DayQuestion(ModelDay, Machines):
    """The load of each hour of a day, and the machines that are to serve it."""


class CapacityQuestion(Question):
    """A question of how many requests are served, which needs no number of them."""

    @model_validator(mode="before")
    @classmethod
    def _at_any_load(cls, given: object) -> object:
        """Ask for requests in flight where neither load is given; the number changes nothing."""
        if not isinstance(given, dict) or {"concurrency", "request_rate"} & given.keys():
            return given
        return {**given, "concurrency": 1}


def clusters_of(nodes: list[dict[str, Any]]) -> tuple[Cluster, ...]:
    """Return machines as one cluster.

    Raises
    ------
    InvalidInput
        A group of machines is spelled wrong; the message names its field.
    """
    try:
        return clusters_in({"clusters": [{"name": "machines", "nodes": nodes}]})
    except InvalidInput as error:
        # The agent wrote `nodes` alone; the cluster around them is ours.
        field = error.field.removeprefix("clusters[0].")
        raise InvalidInput(field, error.problem, error.expected) from error
