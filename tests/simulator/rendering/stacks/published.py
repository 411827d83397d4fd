"""Holds rendered files against the fields their projects publish; pods against Kubernetes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

from tests.simulator.rendering.validators import KUBERNETES

FIELDS = yaml.safe_load((Path(__file__).parent / "published_fields.yaml").read_text())
KINDS = {"text": str, "number": int, "flag": bool}


def check_stack(form: str, text: str) -> list[dict[str, Any]]:
    """Return the documents of a stack's file; a field nobody published fails."""
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        if document.get("apiVersion") in {"apps/v1", "v1"}:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        elif "kind" in document:
            published = FIELDS[document["kind"]]
            assert document["apiVersion"] == published["apiVersion"]
            assert set(document) == {"apiVersion", "kind", "metadata", "spec"}
            _check(document["spec"], published["spec"], "spec")
        else:
            _check(document, FIELDS[form], "")
    return documents


def _check(value: Any, published: Any, where: str) -> None:
    if published == "*":
        return
    if isinstance(published, dict):
        for name, each in value.items():
            assert name in published or "*" in published, f"{where}.{name} is not published"
            _check(each, published.get(name, published.get("*")), f"{where}.{name}")
    elif isinstance(published, list):
        for index, each in enumerate(value):
            _check(each, published[0], f"{where}[{index}]")
    elif published in KINDS:
        assert type(value) is KINDS[published], f"{where} is {value!r}, not {published}"
    else:
        _check_pod(value, published)


def _check_pod(value: dict[str, Any], published: str) -> None:
    base, *added = published.split("+")
    spec = {name: each for name, each in value.items() if name not in added}
    if base == "container":
        spec = {"containers": [{"name": "main", **spec}]}
    # Volumes of a template that the platform adds are not ours to name.
    mounts = [each for one in spec["containers"] for each in one.get("volumeMounts", ())]
    volumes = spec.get("volumes") or [{"name": each["name"], "emptyDir": {}} for each in mounts]
    pod = {"apiVersion": "v1", "kind": "Pod", "spec": {**spec, "volumes": volumes}}
    kubernetes_validate.validate(pod, KUBERNETES, strict=True)
