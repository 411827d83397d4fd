#!/usr/bin/env python
"""Hold rendered files of serving stacks against the schemas their projects publish.

    python scripts/check_stacks.py SCHEMAS PLAN.json ...

SCHEMAS is a folder with CRDs (``*.yaml``) and values schemas of charts (``FORMAT.json``), copied
from the projects' repositories. Every plan is rendered in every format that takes it; a field that
the schema does not name is an error. Exits with 1 when a file is refused.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator

from budsim.commons.errors import InvalidInput
from budsim.simulator.rendering import render

STACKS = ("kserve", "kserve-llm", "llm-d", "dynamo", "production-stack", "aibrix")


def main(arguments: list[str]) -> int:
    """Check every plan in every format; print a line for each."""
    folder, *plans = map(Path, arguments)
    kinds = dict(crds(folder))
    refused = 0
    for plan in plans:
        text = plan.read_text()
        for number in range(1, len(json.loads(text)["configurations"]) + 1):
            for form in STACKS:
                problems = list(check(folder, kinds, text, form, number))
                refused += sum(not problem.startswith("skipped") for problem in problems)
                print(plan.name, number, form, "; ".join(problems) or "accepted")
    return 1 if refused else 0


def check(
    folder: Path, kinds: Mapping[str, Any], text: str, form: str, number: int
) -> Iterator[str]:
    """Yield what a format's schema refuses in a plan, or why the format does not take it."""
    try:
        documents = list(yaml.safe_load_all(render(text, form, number=number)))
    except InvalidInput as error:
        yield f"skipped: {error.problem}"
        return
    values = folder / f"{form}.json"
    for document in documents:
        if values.is_file():
            schema: Any = json.loads(values.read_text())
        elif document.get("apiVersion") in {"apps/v1", "v1"}:
            continue  # the tests hold these against Kubernetes' own schemas
        else:
            kind = f"{document['apiVersion']}/{document['kind']}"
            if kind not in kinds:
                yield f"skipped: SCHEMAS has no CRD of {kind}"
                continue
            schema = kinds[kind]
        found = Draft202012Validator(schema).iter_errors(document)
        yield from (f"{'.'.join(map(str, each.path))}: {each.message[:200]}" for each in found)


def crds(folder: Path) -> Iterator[tuple[str, Any]]:
    """Yield the strict schema of each version of each CRD, by ``apiVersion/kind``."""
    for path in sorted(folder.glob("*.yaml")):
        for crd in yaml.safe_load_all(path.read_text()):
            if not crd or crd.get("kind") != "CustomResourceDefinition":
                continue
            spec = crd["spec"]
            for version in spec["versions"]:
                schema = strict(version["schema"]["openAPIV3Schema"])
                # Kubernetes itself defines metadata.
                schema["properties"]["metadata"] = {}
                yield f"{spec['group']}/{version['name']}/{spec['names']['kind']}", schema


def strict(schema: Any) -> Any:
    """Return a schema that refuses fields it does not name."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: strict(value) for name, value in schema.items()}
    open_ended = {"additionalProperties", "x-kubernetes-preserve-unknown-fields"} & schema.keys()
    if isinstance(schema.get("properties"), dict) and not open_ended:
        found["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
