"""The server: one tool for each question, with answers short enough for an agent to read."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from math import isnan
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, InputRequiredResult, ToolAnnotations
from pydantic import Field, ValidationError

import budsim
from budsim.agents.questions import CapacityQuestion, DayQuestion, Nodes, Question, clusters_of
from budsim.api.answers import plan_row
from budsim.api.documents import changes_document
from budsim.api.pools import router_command, router_of, router_text
from budsim.api.several_models import ask_of, options_of
from budsim.commons.errors import BudsimError
from budsim.commons.units import GIB
from budsim.simulator.wire.model_loads import ModelLoad
from budsim.simulator.wire.traffic import FIELDS

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from budsim.api.answers import Simulation
    from budsim.api.daily import DailyReplicas
    from budsim.simulator.planning.plans import HostTierEffect, Plan

P = ParamSpec("P")
T = TypeVar("T")

INSTRUCTIONS = """\
budsim predicts how large language models are served: which engine configuration to deploy, its
latency and throughput with 90 % intervals, its cost, and the chance that it meets all targets.
Ask `simulate` when the machines are known, `capacity` for how much they serve, `day` for how many
replicas each hour needs, `size` for which devices to rent, `together` for several models on the
same machines. `what_if` changes one setting of the best plan, `explain` says why a plan is as good
as it is, and `render` writes the files that start it. Figures in `_s` are seconds."""

MOST_REASONS = 20
# Wrong arguments that a refusal names.
MOST_PROBLEMS = 5
# The argument of a tool for each field that an error of another caller's words names.
ARGUMENTS = {
    **FIELDS,
    "pretrained_model_uri": "model",
    "engine": "engines",
    "device": "devices",
    "format": "form",
    "what_if": "setting",
}
READ_ONLY = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)

Devices = Annotated[
    list[str], Field(max_length=100, description="names of `budsim devices`; empty: the catalog")
]
Loads = Annotated[list[ModelLoad], Field(min_length=1, max_length=20)]
Number = Annotated[int, Field(ge=1, description="which plan, 1 is the best")]


class Server(MCPServer):
    """A server that refuses wrong arguments in one line."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: Context[Any, Any] | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool; see `MCPServer.call_tool`.

        The validation's own words are a paragraph for each wrong argument, with addresses of its
        documentation.
        """
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                told = in_one_line(error.__cause__)
                raise ToolError(f"Error executing tool {name}: {told}") from error
            raise


def in_one_line(error: ValidationError) -> str:
    """Return what is wrong with arguments: each field with what it must be, at most five."""
    problems = error.errors(include_url=False, include_input=False)
    told = [f"{_place(each)}: {_words(each)}" for each in problems[:MOST_PROBLEMS]]
    left = len(problems) - len(told)
    return "; ".join([*told, *([f"and {left} more"] if left else [])])


def _place(problem: ErrorDetails) -> str:
    where = [str(part) for part in problem["loc"]]
    # A check over several fields stands for the whole question and names the field to look at.
    field = problem.get("ctx", {}).get("field")
    return ".".join([*where, *([str(field)] if field else [])])


def _words(problem: ErrorDetails) -> str:
    if problem["type"] == "missing":
        return "is missing"
    if problem["type"] == "extra_forbidden":
        return "is no argument of it"
    told = problem["msg"].removeprefix("Value error, ")
    return told.replace("Input should be", "must be", 1)


def server() -> MCPServer:
    """Return the server with all its tools; it keeps nothing between two calls."""
    found = Server(name="budsim", instructions=INSTRUCTIONS, version=budsim.__version__)
    for tool in (simulate, capacity, day, size, together, what_if, explain, render):
        found.add_tool(_told(tool), annotations=READ_ONLY)
    return found


def simulate(question: Question) -> dict[str, Any]:
    """Find the best deployments of a model on given machines, best first.

    Each plan has figures with their 90 % intervals (`_low90`, `_high90`), the chance of meeting
    all targets, and the cost in USD per hour. Without a plan, `reasons` say why nothing fits.
    """
    found = _simulated(question)
    return {"summary": found.summary(), "plans": found.rows(), "reasons": _reasons(found)}


def capacity(question: CapacityQuestion) -> dict[str, Any]:
    """Find how many requests given machines serve within the targets.

    Per second with any `request_rate`, else in flight; the number that is given does not matter. At
    least one target must be a latency.
    """
    found = budsim.capacity(
        model=question.model,
        cluster=question.clusters,
        traffic=question.traffic,
        targets=question.targets,
        **options_of(question),
    )
    return {"summary": found.summary(), "clusters": found.rows()}


def day(question: DayQuestion) -> dict[str, Any]:
    """Find how many replicas each hour of a day needs within the targets, and what that costs.

    `scaling` says when to add a replica, `cost` what following the load saves. Without hours,
    `reasons` say why nothing serves the busiest one.
    """
    found = budsim.day(
        model=question.model,
        cluster=question.clusters,
        traffic=question.traffic,
        targets=question.targets,
        hourly=question.hourly,
        lead_time_s=question.lead_time_s,
        **options_of(question),
    )
    told = found.to_dict()
    return {
        "summary": found.summary(),
        "plan": plan_row(found.day.plan, found.question) if found.day else None,
        **{name: told[name] for name in ("hours", "scaling", "cost")},
        "reasons": _reasons(found),
    }


def size(load: ModelLoad, devices: Devices | None = None) -> dict[str, Any]:
    """Find the cheapest devices for a load, as if any number could be had; cheapest first."""
    found = budsim.size(
        model=load.model,
        traffic=load.traffic,
        targets=load.targets,
        devices=devices or (),
        **options_of(load),
    )
    return {"summary": found.summary(), "sets": found.rows()}


def together(loads: Loads, nodes: Nodes) -> dict[str, Any]:
    """Find plans of several models that fit on the same machines, no device used twice.

    Says which devices keep a model from its best plan and who holds them, and what one more
    machine of each kind would change.
    """
    found = budsim.together([ask_of(load) for load in loads], cluster=clusters_of(nodes))
    return found.to_dict() | {"summary": found.summary(), "plans": found.rows()}


def what_if(question: Question, setting: str, value: str) -> dict[str, Any]:
    """Predict what one changed setting does to the best plan, all others as they are.

    `setting` is the engine's flag (`max-num-seqs`), a size of the layout (`tp`, `pp`, `replicas`),
    or a part of the traffic (`concurrency`, `rate`, `input_tokens`, `output_tokens`). Of pools it
    names the workers: `prefill_workers`, `decode_tp`.
    """
    found = _simulated(question)
    change = found.what_if(**{setting: value})
    return {"change": changes_document(found.question, [change])[0]}


def explain(question: Question, number: Number = 1) -> dict[str, Any]:
    """Explain a plan: where its time goes, how far each figure is from its target, what binds."""
    found = _simulated(question)
    row = _chosen(found, number)
    plan = found.plans[number - 1]
    groups = plan.groups
    return {
        "plan": row,
        "router": _router(plan),
        "groups": [
            {
                "engine": group.engine,
                "replicas": group.replicas,
                "bound_by": group.service.bound_by,
                "time_shares": dict(group.explanation.time_shares),
                "room_to_each_target": dict(group.explanation.headroom),
                "encoder_s": group.explanation.encoder_s or None,
                "host_memory": _host_memory(group.explanation.host_tier),
            }
            for group in groups
        ],
    }


def _router(plan: Plan) -> dict[str, Any] | None:
    """Return the router before both pools of a disaggregated plan."""
    if not plan.is_disaggregated:
        return None
    router = router_of(plan)
    told = router_text(router, plan.groups[0].service.ttft_s.value)
    return {"what": told, "image": router.image, "command": list(router_command(plan))}


def _host_memory(tier: HostTierEffect | None) -> dict[str, Any] | None:
    """Return where shared prefixes are found, and TTFT in seconds without host and store."""
    if tier is None:
        return None
    without = tier.ttft_without_s
    return {
        "found_on_device": tier.device_share,
        "found_on_host": tier.host_share,
        "found_in_store": tier.store_share,
        "host_memory_gib": tier.host_bytes / GIB,
        "store_gib": tier.store_bytes / GIB,
        "ttft_without_s": None if isnan(without) else without,
    }


def render(question: Question, form: str, number: Number = 1) -> str:
    """Write the files or commands that start a plan.

    `form` is one of the formats of `budsim render`, such as `command`, `compose`, `kubernetes`.
    """
    found = _simulated(question)
    _chosen(found, number)
    return found.render(form, number=number)


def _simulated(question: Question) -> Simulation:
    return budsim.simulate(
        model=question.model,
        cluster=question.clusters,
        traffic=question.traffic,
        targets=question.targets,
        **options_of(question),
    )


def _chosen(found: Simulation, number: int) -> Mapping[str, Any]:
    rows = found.rows()
    if not rows:
        raise ToolError(found.summary())
    if number > len(rows):
        raise ToolError(f"number: there is no plan {number}; expected 1 to {len(rows)}")
    return rows[number - 1]


def _reasons(found: Simulation | DailyReplicas) -> list[str]:
    """Return why something is not in the answer, each reason once."""
    told = dict.fromkeys(each.reason for each in found.rejections)
    return list(told)[:MOST_REASONS]


def _told(tool: Callable[P, T]) -> Callable[P, T]:
    """Return a tool whose refusals reach the agent in words."""

    @functools.wraps(tool)
    def answered(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return tool(*args, **kwargs)
        except BudsimError as error:
            raise ToolError(_with_own_name(error)) from error

    return answered


def _with_own_name(error: BudsimError) -> str:
    """Return an error's words, its field as the tools spell it."""
    field = getattr(error, "field", "")
    return ARGUMENTS.get(field, field) + str(error).removeprefix(field)
