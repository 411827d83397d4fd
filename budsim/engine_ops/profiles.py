"""Find an engine's profile, memory rule and release date by the name measurements spell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from budsim.commons.errors import NotFound
from budsim.engine_ops import measured_only, serving_engines
from budsim.engine_ops.engine_profile import EngineProfile
from budsim.engine_ops.memory_rule import MemoryRule, VersionedRules, rule_of
from budsim.hardware_ops.device import DeviceKind


@cache
def profiles() -> Mapping[str, EngineProfile]:
    """Return every engine's profile by name, on the hardware it is usually measured on."""
    # Measurements name an engine's builds and its past ("vllm(2023)"), so all profiles are listed.
    launched = [profile for engine in serving_engines.values() for profile in engine.profiles]
    found = {profile.name: profile for profile in (*launched, *measured_only.PROFILES)}
    return MappingProxyType(found)


def profile_for(name: str, kind: DeviceKind) -> EngineProfile:
    """Return the profile of engine ``name`` on hardware of ``kind``.

    Engines whose defaults depend on the hardware (vLLM on CPU and Gaudi) have a profile for each
    kind; others have one.

    Raises
    ------
    NotFound
        When no engine of that name is known.
    """
    if name in serving_engines:
        return serving_engines[name].profile(kind)
    if name not in profiles():
        raise NotFound("engine", name, f"known engines: {', '.join(sorted(profiles()))}")
    return measured_only.PROFILES_BY_KIND.get((name, kind), profiles()[name])


def memory_rule(engine: str, version: str | None = None) -> MemoryRule:
    """Return how ``engine`` of ``version`` (``0.19.0``; default: newest) divides a device.

    Raises
    ------
    NotFound
        When the engine is not known, or the version is older than what was read.
    """
    rules = _memory_rules()
    if engine not in rules:
        raise NotFound("engine", engine, f"memory rules of {', '.join(sorted(rules))}")
    return rule_of(engine, rules[engine], version)


def _memory_rules() -> Mapping[str, VersionedRules]:
    found = dict(measured_only.MEMORY_RULES)
    for engine in serving_engines.values():
        found |= engine.memory_rules
    return found
