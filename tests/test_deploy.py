"""What ships in `deploy/` is held against its own tools, and against what the service needs."""

import re
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

from budsim.commons.config import (
    GROUPS,
    AppSettings,
    InventorySettings,
    LimitSettings,
    read_settings,
)
from budsim.performance.serving.replay import native
from budsim.simulator.background.lifecycle import LAST_RESORT_S
from tests.simulator.rendering.validators import KUBERNETES, check_compose

REPOSITORY = Path(__file__).parents[1]
DEPLOY = REPOSITORY / "deploy"
BASE = DEPLOY / "kubernetes" / "base"
DAPR = "dapr.io/v1alpha1"


def documents(text: str) -> list[dict[str, Any]]:
    """Return the documents of a YAML text."""
    return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(params=["dev", "production", "platform"])
def overlay(request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    """Return the manifests of one environment as kubectl would apply them."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    return kustomized(request.param)


def kustomized(name: str) -> list[dict[str, Any]]:
    """Return the manifests of an overlay."""
    folder = DEPLOY / "kubernetes" / "overlays" / name
    built = subprocess.run(
        ["kubectl", "kustomize", str(folder)], check=True, capture_output=True, text=True
    )
    return documents(built.stdout)


def of_kind(manifests: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """Return the one manifest of a kind."""
    (found,) = [manifest for manifest in manifests if manifest["kind"] == kind]
    return found


def test_overlays_are_what_kubernetes_takes(overlay: list[dict[str, Any]]):
    """Every manifest passes the strict schemas and has a namespace, and no kind is missing."""
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
    assert {"Namespace", "NetworkPolicy"} <= kinds
    namespaced = [manifest for manifest in overlay if manifest["kind"] != "Namespace"]
    assert {manifest["metadata"]["namespace"] for manifest in namespaced} == {"budsim"}
    assert of_kind(overlay, "Namespace")["metadata"]["name"] == "budsim"


def test_overlays_select_their_own_pods_and_settings(overlay: list[dict[str, Any]]):
    """Service and budget select the deployment's pods only; the settings the pods read exist."""
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
    """Probes carry no token, and ask paths that need none; the sidecar knows app id and port."""
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
    """Containers on one machine and the cluster retry alike, and keep workflows for as long."""
    (here,) = documents((DEPLOY / "components" / file).read_text(encoding="utf-8"))
    there = of_kind(documents((BASE / "dapr.yaml").read_text(encoding="utf-8")), kind)
    assert here["spec"] == there["spec"]


def test_workflows_are_limited_to_what_a_replica_works_on():
    """The limits of the sidecar follow the worker processes that both deployments start."""
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
    # A mirror or a digest takes the place of each by a variable of its own.
    assert all(re.fullmatch(r"\$\{[A-Z]+_IMAGE:-[^}]+\}", image) for image in images)
    by_tag = {image for image in images if not re.search(r"@sha256:[0-9a-f]{64}\}$", image)}
    assert all("daprio/" in image for image in by_tag)


def test_dockerfile_passes_hadolint():
    """In full strength: pinned, no root at the end."""
    tool = Path(sys.executable).with_name("hadolint")
    checked = subprocess.run(
        [tool, DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0, checked.stdout
    lines = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").splitlines()
    (python,) = [line for line in lines if line.startswith("ARG PYTHON_IMAGE=")]
    assert re.search(r"@sha256:[0-9a-f]{64}$", python)
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]


def settings_of(overlay: list[dict[str, Any]]) -> dict[str, str]:
    """Return the variables that an overlay sets."""
    data: dict[str, str] = of_kind(overlay, "ConfigMap")["data"]
    return data


def test_overlays_set_variables_that_exist(
    overlay: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
):
    """Every variable is a setting, and every value is read."""
    known = {name.upper() for group in GROUPS.values() for name in group.model_fields}
    assert set(settings_of(overlay)) <= known | {"ENGINES", "EVENT_TOPICS"}
    for name, value in settings_of(overlay).items():
        monkeypatch.setenv(name, value)
    read_settings()


def test_topics_are_scoped_to_those_the_service_uses(overlay: list[dict[str, Any]]):
    """What the settings allow is what the sidecar publishes, and nothing else."""
    pubsub = next(
        one
        for one in overlay
        if one["kind"] == "Component" and one["spec"]["type"] == "pubsub.redis"
    )
    settings = settings_of(overlay)
    wanted = {*settings["EVENT_TOPICS"].split(","), "poisonMessages"}
    if notify := settings.get("NOTIFY_SERVICE_TOPIC"):
        wanted.add(notify)
    assert published_topics(pubsub) == wanted


def test_topics_are_scoped_on_one_machine_too():
    """The stack of containers: its component publishes what its service allows, and requests."""
    (pubsub,) = documents((DEPLOY / "components" / "pubsub.yaml").read_text(encoding="utf-8"))
    compose = yaml.safe_load((DEPLOY / "docker-compose-dev.yaml").read_text(encoding="utf-8"))
    allowed = compose["services"]["app"]["environment"]["EVENT_TOPICS_ALLOWED"].split(",")
    assert published_topics(pubsub) == {*allowed, "poisonMessages", "budSimMessages"}


def published_topics(pubsub: dict[str, Any]) -> set[str]:
    """Return the topics budsim may publish on; it may subscribe to its own, and no others exist."""
    scopes = {item["name"]: item.get("value", "") for item in pubsub["spec"]["metadata"]}
    published = set(scopes["publishingScopes"].removeprefix("budsim=").split(","))
    assert scopes["subscriptionScopes"] == "budsim=budSimMessages"
    assert set(scopes["allowedTopics"].split(",")) == published | {"budSimMessages"}
    return published


def test_the_callers_platform_runs_their_engine_and_models():
    """VLLM only, their notification topic, and models from the volume they share."""
    if not shutil.which("kubectl"):
        pytest.skip("needs kubectl")
    overlay = kustomized("platform")
    settings = settings_of(overlay)
    assert settings["ENGINES"] == "vllm"
    assert settings["NOTIFY_SERVICE_TOPIC"] == "notificationMessages"
    pod = of_kind(overlay, "Deployment")["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert volumes["models"]["persistentVolumeClaim"]["claimName"] == "model-registry"
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["models"]["mountPath"] == settings["MODEL_REGISTRY_DIR"]
    assert mounts["models"]["readOnly"]


def test_every_secret_is_named_where_it_is_to_be_made():
    """The base's file tells each secret, with its key, that the manifests refer to."""
    text = (BASE / "kustomization.yaml").read_text(encoding="utf-8")
    referred = set()
    for file in BASE.glob("*.yaml"):
        for manifest in documents(file.read_text(encoding="utf-8")):
            referred |= set(_secret_keys(manifest))
    assert len(referred) == 4
    for name, key in referred:
        assert any(name in line and key in line for line in text.splitlines()), (name, key)


def _secret_keys(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        if "secretKeyRef" in value:
            yield value["secretKeyRef"]["name"], value["secretKeyRef"]["key"]
        for inner in value.values():
            yield from _secret_keys(inner)
    if isinstance(value, list):
        for inner in value:
            yield from _secret_keys(inner)


def test_an_image_is_pinned_by_its_digest(tmp_path: Path):
    """The script writes name and digest, replaces them at the next release, and takes no tag."""
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    script = tmp_path / "deploy" / "pin_image.sh"
    file = tmp_path / "deploy/kubernetes/overlays/production/kustomization.yaml"
    for digit in "ab":
        subprocess.run(
            [script, f"registry.example:5000/budsim@sha256:{64 * digit}"],
            check=True,
            capture_output=True,
        )
        (image,) = documents(file.read_text())[0]["images"]
        assert image == {
            "name": "budsim",
            "newName": "registry.example:5000/budsim",
            "digest": f"sha256:{64 * digit}",
        }
    ran = subprocess.run(
        [script, "registry.example/budsim:0.2.0"], check=False, capture_output=True
    )
    assert ran.returncode == 2


def test_stopping_takes_less_time_than_it_is_given():
    """The service ends within the grace period, and its sidecar outlives it."""
    settings = AppSettings(_env_file=None)
    longest_s = settings.drain_s + settings.shutdown_s + LAST_RESORT_S
    template = of_kind(
        documents((BASE / "deployment.yaml").read_text(encoding="utf-8")), "Deployment"
    )["spec"]["template"]
    assert longest_s < template["spec"]["terminationGracePeriodSeconds"]
    drain = template["metadata"]["annotations"]["dapr.io/block-shutdown-duration"]
    assert settings.drain_s + settings.shutdown_s < seconds(drain)
    compose = yaml.safe_load((DEPLOY / "docker-compose-dev.yaml").read_text(encoding="utf-8"))
    services = compose["services"]
    assert longest_s < seconds(services["app"]["stop_grace_period"])
    (waits,) = [
        part.rpartition("=")[2]
        for part in services["daprd"]["command"]
        if part.startswith("--dapr-block-shutdown-duration")
    ]
    assert seconds(waits) < seconds(services["daprd"]["stop_grace_period"])


def test_the_largest_inventory_passes_through_every_sidecar():
    """Dapr's own limit is 4 MiB; budsim's is 64 MB."""
    template = of_kind(
        documents((BASE / "deployment.yaml").read_text(encoding="utf-8")), "Deployment"
    )["spec"]["template"]
    there = template["metadata"]["annotations"]["dapr.io/max-body-size"]
    compose = yaml.safe_load((DEPLOY / "docker-compose-dev.yaml").read_text(encoding="utf-8"))
    options = dict(
        part.split("=", 1) for part in compose["services"]["daprd"]["command"] if "=" in part
    )
    largest_bytes = InventorySettings(_env_file=None).inventory_max_bytes
    for size in (there, options["--max-body-size"]):
        assert int(size.removesuffix("Mi")) * 2**20 >= largest_bytes


def test_what_dies_in_the_compose_file_is_started_again():
    """Every service of it."""
    compose = yaml.safe_load((DEPLOY / "docker-compose-dev.yaml").read_text(encoding="utf-8"))
    assert {one.get("restart") for one in compose["services"].values()} == {"unless-stopped"}


def seconds(text: str) -> int:
    """Return the seconds of a duration such as 45s."""
    return int(text.removesuffix("s"))


@pytest.mark.parametrize("script", ["start_dev.sh", "stop_dev.sh"])
def test_scripts_refuse_what_they_do_not_know(script: str):
    """One line of usage, status 2, nothing started."""
    ran = subprocess.run([DEPLOY / script, "--bild"], capture_output=True, text=True, check=False)
    assert (ran.returncode, "usage" in ran.stderr) == (2, True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of this checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=REPOSITORY, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


def test_wheel_carries_migrations_and_regressors(wheel: Path):
    """An installed wheel can bring its database up to date and predict."""
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


def test_wheel_carries_the_compiled_kernel_of_this_source(wheel: Path):
    """Nothing is compiled where such a wheel is installed; its name says the platform."""
    assert "py3-none-linux" in wheel.name
    library = native.library_name(native.source_digest())
    assert f"budsim/performance/serving/replay/{library}" in set(_inside(wheel))


def _inside(wheel: Path) -> Iterator[str]:
    with zipfile.ZipFile(wheel) as archive:
        yield from archive.namelist()
