"""Real validators of rendered files: compose's schema and Kubernetes' strict ones."""

import json
from importlib.resources import files

import jsonschema
import kubernetes_validate
import yaml

KUBERNETES = "1.33"


def compose_schema() -> dict:
    """Return the published schema of compose files."""
    path = files("check_jsonschema").joinpath("builtin_schemas/vendor/compose-spec.json")
    return json.loads(path.read_text(encoding="utf-8"))


def check_compose(text: str) -> dict:
    """Hold a compose file against the compose specification's schema and return it."""
    compose = yaml.safe_load(text)
    schema = compose_schema()
    jsonschema.validators.validator_for(schema)(schema).validate(compose)
    return compose


def check_manifests(text: str) -> list[dict]:
    """Return manifests that pass Kubernetes' strict schemas, pods of LeaderWorkerSets included."""
    manifests = list(yaml.safe_load_all(text))
    for manifest in manifests:
        if manifest["kind"] == "LeaderWorkerSet":
            templates = manifest["spec"]["leaderWorkerTemplate"]
            for template in (templates["leaderTemplate"], templates["workerTemplate"]):
                pod = {"apiVersion": "v1", "kind": "Pod", **template}
                kubernetes_validate.validate(pod, KUBERNETES, strict=True)
        else:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    return manifests
