"""Writes YAML for people: in the order it was built, no anchors, comments at the top."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes equal parts twice instead of as anchors, and texts of several lines as blocks."""

    def ignore_aliases(self, data: object) -> bool:  # noqa: ARG002 - the interface
        """Return that nothing is an alias."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar(
        "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
    )


_Dumper.add_representer(str, _text)


def yaml_text(heading: Iterable[str], *documents: Mapping[str, Any]) -> str:
    """Return documents as YAML below a heading of comments."""
    body = yaml.dump_all(documents, Dumper=_Dumper, sort_keys=False, width=130, allow_unicode=True)
    return comments(heading) + str(body)


def comments(lines: Iterable[str]) -> str:
    """Return lines as comments of a shell or of YAML."""
    return "".join(f"# {' '.join(line.split())}\n" for line in lines)
