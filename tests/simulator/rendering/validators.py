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


def _object(required: dict, optional: dict | None = None) -> dict:
    """Return the schema of an object that has these fields and no others."""
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": required | (optional or {}),
        "required": list(required),
    }


TEXT, COUNT = {"type": "string"}, {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
POLICIES = {
    "type": "array",
    "items": _object(
        {"type": {"enum": ["Pods", "Percent"]}, "value": COUNT, "periodSeconds": COUNT}
    ),
}
RULES = _object({"stabilizationWindowSeconds": COUNT, "policies": POLICIES})
# The fields of KEDA's published CustomResourceDefinition that we write, with their types
# (github.com/kedacore/keda, config/crd/bases/keda.sh_scaledobjects.yaml, v1alpha1).
SCALED_OBJECT = _object(
    {
        "apiVersion": {"const": "keda.sh/v1alpha1"},
        "kind": {"const": "ScaledObject"},
        "metadata": _object({"name": TEXT, "labels": TEXTS}),
        "spec": _object(
            {
                "scaleTargetRef": _object({"name": TEXT}, {"apiVersion": TEXT, "kind": TEXT}),
                "triggers": {
                    "type": "array",
                    "minItems": 1,
                    "items": _object({"type": TEXT, "metadata": TEXTS}, {"metricType": TEXT}),
                },
            },
            {
                "minReplicaCount": COUNT,
                "maxReplicaCount": COUNT,
                "pollingInterval": COUNT,
                "cooldownPeriod": COUNT,
                "advanced": _object(
                    {
                        "horizontalPodAutoscalerConfig": _object(
                            {"behavior": _object({"scaleUp": RULES, "scaleDown": RULES})}
                        )
                    }
                ),
            },
        ),
    }
)


def check_scaled_object(text: str) -> dict:
    """Return the only ScaledObject of a text, which has no field that KEDA does not know."""
    manifest = yaml.safe_load(text)
    jsonschema.Draft202012Validator(SCALED_OBJECT).validate(manifest)
    return manifest
