"""A question as an agent spells it, and the values it stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import ConfigDict, Field

from budsim.api.inputs import SearchOptions
from budsim.commons.errors import InvalidInput
from budsim.simulator.wire.fields import Text
from budsim.simulator.wire.traffic import LoadFields

if TYPE_CHECKING:
    from budsim.hardware_ops.cluster import Cluster

MOST_GROUPS = 100


class Load(LoadFields):
    """A model, what clients send to it, the targets of its service, and what may be tried."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    model: Text = Field(description="Hugging Face id, or a name that `budsim models` lists")
    engines: Annotated[list[Text], Field(max_length=10)] = Field(
        [], description="serving engines that may be used (vllm, sglang); empty: all"
    )
    quantize: bool = Field(False, description="also try quantized weights")
    chance: float | None = Field(
        None, ge=0, lt=1, description="least chance of meeting all targets; null: 0.8"
    )

    @property
    def options(self) -> SearchOptions:
        """What the search may try, and how it judges."""
        options: SearchOptions = {"engines": self.engines, "quantize": self.quantize}
        if self.chance is not None:
            options["risk"] = self.chance
        return options


class Question(Load):
    """A load, and the machines that are to serve it."""

    nodes: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=MOST_GROUPS)] = Field(
        description="groups of equal machines in the short form of cluster files, such as "
        '{"name": "gpu", "count": 2, "devices": [{"device": "H100-SXM", "count": 8}]} '
        'or a cloud instance: {"instance": "p5.48xlarge", "count": 2}',
    )

    @property
    def clusters(self) -> tuple[Cluster, ...]:
        """The machines as one cluster.

        Raises
        ------
        InvalidInput
            A group of machines is spelled wrong; the message names its field.
        """
        from budsim.hardware_ops.cluster_file import clusters_in

        try:
            return clusters_in({"clusters": [{"name": "machines", "nodes": self.nodes}]})
        except InvalidInput as error:
            # The agent wrote `nodes` alone; the cluster around them is ours.
            field = error.field.removeprefix("clusters[0].")
            raise InvalidInput(field, error.problem, error.expected) from error
