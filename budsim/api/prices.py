"""What a plan costs, in words and in figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from budsim.hardware_ops.device import Device
    from budsim.simulator.planning.plans import Plan
    from budsim.simulator.planning.question import Question


def price_text(question: Question, plan: Plan) -> str:
    """Return what a plan costs, on which basis, and where the prices come from.

    ``3.20 USD/h, 2,336 USD a month, 1.20 USD per million output tokens, 0.24 of all tokens; to
    rent: H100-SXM 3.20 USD/h (published: Hyperstack 3.2 USD/h, ..., read 2026-08-26)``
    """
    tokens = "output tokens" if question.traffic.output_tokens else "tokens"
    blended = cost_per_million_total_tokens_usd(question, plan)
    all_tokens = f", {_usd(blended)} of all tokens" if question.traffic.output_tokens else ""
    return (
        f"{plan.cost_usd_per_h:.2f} USD/h, {plan.cost_usd_per_month:,.0f} USD a month, "
        f"{_usd(plan.cost_per_million_tokens_usd)} USD per million {tokens}{all_tokens}; "
        f"{basis_text(plan)}"
    )


def energy_text(question: Question, plan: Plan) -> str:
    """Return what a plan takes from the grid: power, energy and CO2 per million tokens."""
    from budsim.simulator.planning.energy import energy_of

    found, site = energy_of(question, plan.groups), question.power_site
    tokens = "output tokens" if question.traffic.output_tokens else "tokens"
    return (
        f"{found.power_w:,.0f} W with servers and cooling (PUE {site.pue:g}); per million {tokens} "
        f"{found.kwh_per_million_tokens:.3g} kWh and {_grams(found.g_co2_per_million_tokens)} CO2 "
        f"at {site.g_co2_per_kwh:g} g/kWh"
    )


def energy_row(question: Question, plan: Plan) -> dict[str, float]:
    """Return the same figures by name."""
    from budsim.simulator.planning.energy import energy_of

    found = energy_of(question, plan.groups)
    return {
        "power_w": found.power_w,
        "kwh_per_million_tokens": found.kwh_per_million_tokens,
        "g_co2_per_million_tokens": found.g_co2_per_million_tokens,
    }


def basis_text(plan: Plan) -> str:
    """Return what the price of an hour pays for, and the price and source of each device."""
    devices = {group.config.device.name: group.config.device for group in plan.groups}
    told = "; ".join(
        f"{device.name} {device.price_usd_per_h:.2f} USD/h ({_source(device)})"
        for device in devices.values()
    )
    return f"to {price_basis(plan)}: {told}"


def price_basis(plan: Plan) -> str:
    """Return the basis of a plan's prices: ``rent`` or ``own``."""
    origin = plan.groups[0].config.device.price_origin
    return str(origin.basis) if origin else "rent"


def cost_per_million_total_tokens_usd(question: Question, plan: Plan) -> float:
    """Return USD per million tokens, input and output together.

    1 USD per million output tokens with 1,000 tokens in and 250 out is 0.20 USD per million tokens.
    """
    load = question.traffic
    if not load.output_tokens:
        return plan.cost_per_million_tokens_usd
    share = load.output_tokens / (load.input_tokens + load.output_tokens)
    return plan.cost_per_million_tokens_usd * share


def price_document(device: Device) -> dict[str, Any]:
    """Return the price of an hour of one device and its origin."""
    origin = device.price_origin
    return {
        "device": device.name,
        "usd_per_h": device.price_usd_per_h,
        "basis": str(origin.basis) if origin else None,
        "kind": str(origin.kind) if origin else None,
        "date": origin.date or None if origin else None,
        "source": origin.source if origin else None,
    }


def _source(device: Device) -> str:
    return device.price_origin.source if device.price_origin else "source not known"


def _grams(value: float) -> str:
    """Return a mass to the gram, small ones to two digits: "1,236 g", "0.43 g"."""
    return f"{value:,.0f} g" if value >= 10.0 or value == 0.0 else f"{value:.2g} g"


def _usd(value: float) -> str:
    """Return a price to the cent, small ones to two digits."""
    return f"{value:.2f}" if value >= 1.0 else f"{value:#.2g}"
