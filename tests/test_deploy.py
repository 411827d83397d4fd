"""What ships in `deploy/` is held against its own tools, and against what the service needs."""

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from budsim.commons.config import LimitSettings
from budsim.performance.serving.replay import native
from tests.simulator.rendering.validators import KUBERNETES, check_compose

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
DAPR = "dapr.io/v1alpha1"


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(params=["dev", "production"])
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the manifests of one environment, as kubectl would apply them; skipped where there is no kubectl."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    folder = DEPLOY / "kubernetes" / "overlays" / request.param
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    )
    return documents(built.stdout)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def test_overlays_are_what_kubernetes_takes(overlay: list[dict[str, Any]]):
    """Every manifest passes the strict schemas, carries a namespace, and the kinds promised are there."""
    for manifest in overlay:
        if manifest["apiVersion"] != DAPR:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    kinds = {manifest["kind"] for manifest in overlay}
    assert {
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "Job",
        "ConfigMap",
    } <= kinds
    assert {"Component", "Resiliency"} <= kinds
    assert {manifest["metadata"]["namespace"] for manifest in overlay} == {"budsim"}


def test_overlays_select_their_own_pods_and_settings(overlay: list[dict[str, Any]]):
    """Service and budget select the deployment's pods and not the job's; the settings the pods read exist."""
    deployment, job = of_kind(overlay, "Deployment"), of_kind(overlay, "Job")
    labels, others = (
        one["spec"]["template"]["metadata"]["labels"].items() for one in (deployment, job)
    )
    selectors = [of_kind(overlay, "Service")["spec"]["selector"]]
    selectors += [
        of_kind(overlay, kind)["spec"]["selector"]["matchLabels"]
        for kind in ("PodDisruptionBudget", "Deployment")
    ]
    for selector in selectors:
        assert selector.items() <= labels
        assert not selector.items() <= others
    settings = deployment["spec"]["template"]["spec"]["containers"][0]["envFrom"][0][
        "configMapRef"
    ]["name"]
    assert of_kind(overlay, "ConfigMap")["metadata"]["name"] == settings
    assert of_kind(overlay, "ConfigMap")["data"]["MIGRATE_AT_START"] == "false"
    budget, scale = (
        of_kind(overlay, "PodDisruptionBudget"),
        of_kind(overlay, "HorizontalPodAutoscaler"),
    )
    assert budget["spec"]["minAvailable"] <= scale["spec"]["minReplicas"]


@pytest.mark.parametrize("file", sorted(BASE.glob("*.yaml")), ids=lambda file: file.name)
def test_base_manifests_are_what_kubernetes_takes(file: Path):
    """Also without kubectl: each file by itself, but for Kustomize's and Dapr's own kinds."""
    for manifest in documents(file.read_text(encoding="utf-8")):
        if manifest["kind"] != "Kustomization" and manifest["apiVersion"] != DAPR:
            kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def test_pods_run_as_nobody_and_take_secrets_from_secrets():
    """Not root, nothing writable but scratch, no privileges, and no secret written down."""
    for file, kind in (("deployment.yaml", "Deployment"), ("migrations.yaml", "Job")):
        pod = of_kind(documents((BASE / file).read_text(encoding="utf-8")), kind)["spec"][
            "template"
        ]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert all("secretKeyRef" in variable["valueFrom"] for variable in container["env"])


def test_probes_and_sidecar_ask_paths_the_service_leaves_open():
    """Probes carry no token: each path is one that needs none; the sidecar is told app id, port and tokens."""
    from budsim.simulator.http.middleware import OPEN_PATHS

    template = of_kind(
        documents((BASE / "deployment.yaml").read_text(encoding="utf-8")), "Deployment"
    )["spec"]["template"]
    (container,) = template["spec"]["containers"]
    probes = [
        container[name]["httpGet"]["path"]
        for name in ("startupProbe", "livenessProbe", "readinessProbe")
    ]
    assert probes == ["/health", "/health", "/ready"]
    notes = template["metadata"]["annotations"]
    assert {
        *probes,
        notes["dapr.io/app-health-check-path"],
        notes["prometheus.io/path"],
    } <= OPEN_PATHS
    assert (notes["dapr.io/app-id"], notes["dapr.io/app-port"]) == (
        "budsim",
        str(container["ports"][0]["containerPort"]),
    )


@pytest.mark.parametrize(
    ("file", "kind"), [("resiliency.yaml", "Resiliency"), ("config.yaml", "Configuration")]
)
def test_sidecars_are_the_same_everywhere(file: str, kind: str):
    """Containers on one machine and the cluster retry alike, and keep as much of workflows for as long."""
    (here,) = documents((DEPLOY / "components" / file).read_text(encoding="utf-8"))
    there = of_kind(documents((BASE / "dapr.yaml").read_text(encoding="utf-8")), kind)
    assert here["spec"] == there["spec"]


def test_workflows_are_limited_to_what_a_replica_works_on():
    """The sidecar is told of the limits, and they follow the worker processes that both deployments start."""
    template = of_kind(
        documents((BASE / "deployment.yaml").read_text(encoding="utf-8")), "Deployment"
    )["spec"]["template"]
    configuration = of_kind(
        documents((BASE / "dapr.yaml").read_text(encoding="utf-8")), "Configuration"
    )
    assert (
        template["metadata"]["annotations"]["dapr.io/config"] == configuration["metadata"]["name"]
    )
    settings = (BASE / "kustomization.yaml").read_text(encoding="utf-8")
    processes = LimitSettings.model_fields["worker_processes"].default
    assert f"WORKER_PROCESSES={processes}\n" in settings
    assert configuration["spec"]["workflow"]["maxConcurrentActivityInvocations"] == 2 * processes


def test_compose_file_holds_what_the_stack_needs():
    """It passes the compose specification; every image has an exact tag."""
    compose = check_compose((DEPLOY / "docker-compose-dev.yaml").read_text(encoding="utf-8"))
    assert set(compose["services"]) == {
        "app",
        "daprd",
        "placement",
        "scheduler",
        "postgres",
        "redis",
    }
    images = [service["image"] for service in compose["services"].values() if "image" in service]
    assert all(":" in image and "latest" not in image for image in images)


def test_dockerfile_passes_hadolint():
    """In full strength: pinned, no root at the end."""
    tool = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [tool, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]


@pytest.mark.parametrize("script", ["start_dev.sh", "stop_dev.sh"])
def test_scripts_refuse_what_they_do_not_know(script: str):
    """One line of usage, status 2, nothing started."""
    ran = subprocess.run([DEPLOY / script, "--bild"], capture_output=True, text=True, check=False)
    assert (ran.returncode, "usage" in ran.stderr) == (2, True)


def test_wheel_carries_migrations_and_regressors(tmp_path: Path):
    """An installed wheel can bring its database up to date and predict."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(_inside(wheel))
    versions = {
        f"budsim/_migrations/alembic/versions/{file.name}"
        for file in (REPOSITORY / "alembic" / "versions").glob("*.py")
    }
    assert {
        "budsim/_migrations/alembic.ini",
        "budsim/_migrations/alembic/env.py",
        *versions,
    } <= names
    assert "budsim/_pretrained_models/cuda/manifest.json" in names


def test_wheel_carries_the_compiled_kernel_of_this_source(tmp_path: Path):
    """Nothing is compiled where such a wheel is installed; its name says the platform."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    assert "py3-none-linux" in wheel.name
    library = native.library_name(native.source_digest())
    assert f"budsim/performance/serving/replay/{library}" in set(_inside(wheel))


def _inside(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        yield from archive.namelist()
