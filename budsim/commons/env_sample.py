"""Writes `.env.sample` from the settings: `python -m budsim.commons.env_sample`."""

from __future__ import annotations

from pathlib import Path

from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo

from budsim.commons.config import GROUPS
from budsim.commons.settings_group import SettingsGroup

SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
# Fields whose variable is better known under its alias.
ALIAS_SHOWN = {"engines_allowed": "ENGINES", "event_topics_allowed": "EVENT_TOPICS"}


def env_sample() -> str:
    """Return the text of `.env.sample`: every variable with its meaning, bounds and default."""
    sections = (_section(group) for group in GROUPS.values())
    header = "# Written by `python -m budsim.commons.env_sample`; do not edit.\n\n"
    return header + "\n".join(sections)


def _section(group: type[SettingsGroup]) -> str:
    lines = [f"# {(group.__doc__ or '').strip().splitlines()[0]}"]
    for name, definition in group.model_fields.items():
        lines.append(f"# {definition.description}{_bounds(definition)}{_aliases(name, definition)}")
        lines.append(_assignment(ALIAS_SHOWN.get(name, name.upper()), definition.default))
    return "\n".join(lines) + "\n"


def _bounds(definition: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, name)}"
        for rule in definition.metadata
        for name, sign in SIGNS.items()
        if getattr(rule, name, None) is not None
    ]
    return f" ({', '.join(bounds)})" if bounds else ""


def _aliases(name: str, definition: FieldInfo) -> str:
    aliases = definition.validation_alias
    if name in ALIAS_SHOWN or not isinstance(aliases, AliasChoices):
        return ""
    others = [str(alias).upper() for alias in aliases.choices if alias != name]
    return f"; also {', '.join(others)}"


def _assignment(variable: str, default: object) -> str:
    if default is None or default == "":
        return f"# {variable}="
    if isinstance(default, SecretStr):
        default = default.get_secret_value()
    return f"{variable}={str(default).lower() if isinstance(default, bool) else default}"


if __name__ == "__main__":
    Path(".env.sample").write_text(env_sample(), encoding="utf-8")
