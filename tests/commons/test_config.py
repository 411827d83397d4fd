"""Settings: every documented form is read, a wrong one is named in one line, no secret is shown."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from budsim.commons.config import GROUPS, Settings, read_settings
from budsim.commons.errors import InvalidInput
from budsim.engine_ops.shared.tables import load_table
from budsim.main import create_app

FORMS: list[tuple[str, str, Callable[[Settings], Any], Any]] = [
    ("ENVIRONMENT", "Production", lambda s: s.app.environment, "production"),
    ("APP_PORT", "8080", lambda s: s.app.app_port, 8080),
    ("DRAIN_S", "0", lambda s: s.app.drain_s, 0),
    ("SHUTDOWN_S", "5.5", lambda s: s.app.shutdown_s, 5.5),
    ("APP_API_TOKEN", "t", lambda s: s.app.app_api_token.get_secret_value(), "t"),
    ("SECRETS_APP_API_TOKEN", "t", lambda s: s.app.app_api_token.get_secret_value(), "t"),
    ("LOG_LEVEL", "debug", lambda s: s.app.log_level, "DEBUG"),
    (
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://collector:4318",
        lambda s: s.telemetry.otel_exporter_otlp_endpoint,
        "http://collector:4318",
    ),
    ("DATABASE_URL", "sqlite:///b.db", lambda s: s.database.url, "sqlite:///b.db"),
    ("DATABASE_URL", "sqlite:////var/b.db", lambda s: s.database.url, "sqlite:////var/b.db"),
    *(
        (
            name,
            f"{scheme}://u:p%40ss@db:5433/n",
            lambda s: s.database.url,
            "postgresql+psycopg2://u:p%40ss@db:5433/n",
        )
        for name in ("DATABASE_URL", "SECRETS_DATABASE_URL")
        for scheme in ("postgresql", "postgres", "postgresql+psycopg2")
    ),
    ("PSQL_HOST", "db", lambda s: s.database.url, "postgresql+psycopg2://budsim@db:5432/budsim"),
    ("PSQL_PORT", "5433", lambda s: s.database.psql_port, 5433),
    ("PSQL_USER", "u", lambda s: s.database.psql_user, "u"),
    ("SECRETS_PSQL_USER", "u", lambda s: s.database.psql_user, "u"),
    ("PSQL_PASSWORD", "p", lambda s: s.database.psql_password.get_secret_value(), "p"),
    ("SECRETS_PSQL_PASSWORD", "p", lambda s: s.database.psql_password.get_secret_value(), "p"),
    ("PSQL_DB_NAME", "n", lambda s: s.database.psql_db_name, "n"),
    ("DATABASE_POOL_SIZE", "3", lambda s: s.database.database_pool_size, 3),
    ("MIGRATE_AT_START", "false", lambda s: s.database.migrate_at_start, False),
    ("MIGRATE_AT_START", "0", lambda s: s.database.migrate_at_start, False),
    ("RETENTION_DAYS", "7", lambda s: s.database.retention_days, 7),
    ("DAPR_RUNTIME_HOST", "::1", lambda s: s.dapr.dapr_runtime_host, "::1"),
    ("DAPR_HTTP_PORT", "3500", lambda s: s.dapr.dapr_http_port, 3500),
    ("DAPR_GRPC_PORT", "50001", lambda s: s.dapr.dapr_grpc_port, 50001),
    ("DAPR_API_TOKEN", "t", lambda s: s.dapr.dapr_api_token.get_secret_value(), "t"),
    ("SECRETS_DAPR_API_TOKEN", "t", lambda s: s.dapr.dapr_api_token.get_secret_value(), "t"),
    ("DAPR_WORKFLOWS", "false", lambda s: s.dapr.dapr_workflows, False),
    ("DAPR_TIMEOUT_S", "2.5", lambda s: s.dapr.dapr_timeout_s, 2.5),
    ("STATE_STORE_NAME", "s", lambda s: s.dapr.state_store_name, "s"),
    ("PUBSUB_NAME", "p", lambda s: s.dapr.pubsub_name, "p"),
    ("PUBSUB_TOPIC", "t", lambda s: s.dapr.pubsub_topic, "t"),
    ("DEAD_LETTER_TOPIC", "d", lambda s: s.dapr.dead_letter_topic, "d"),
    ("NOTIFY_SERVICE_TOPIC", "n", lambda s: s.dapr.notify_service_topic, "n"),
    ("EVENT_TOPICS_ALLOWED", "a, b*", lambda s: s.dapr.event_topics, ("a", "b*")),
    ("EVENT_TOPICS", "a, b*", lambda s: s.dapr.event_topics, ("a", "b*")),
    ("EVENT_GIVE_UP_S", "60", lambda s: s.dapr.event_give_up_s, 60),
    ("SECRET_STORE_NAME", "vault", lambda s: s.dapr.secret_store_name, "vault"),
    ("SECRET_NAME", "n", lambda s: s.dapr.secret_name, "n"),
    ("CONFIGURATION_STORE_NAME", "c", lambda s: s.dapr.configuration_store_name, "c"),
    ("STORES_WAIT_S", "0", lambda s: s.dapr.stores_wait_s, 0),
    ("INVENTORY_FILE", "/x.json", lambda s: str(s.inventory.inventory_file), "/x.json"),
    ("CLUSTER_INFO_STATE_KEY", "k", lambda s: s.inventory.cluster_info_state_key, "k"),
    ("INVENTORY_MAX_BYTES", "1000", lambda s: s.inventory.inventory_max_bytes, 1000),
    ("INVENTORY_TTL_S", "0.5", lambda s: s.inventory.inventory_ttl_s, 0.5),
    ("MODEL_REGISTRY_DIR", "/m", lambda s: str(s.models.model_registry_dir), "/m"),
    ("MODEL_REGISTRY_POD_DIR", "/d", lambda s: s.models.model_registry_pod_dir, "/d"),
    ("PRETRAINED_MODELS_DIR", "/p", lambda s: str(s.models.pretrained_models_dir), "/p"),
    ("CALIBRATION_FILE", "/c", lambda s: str(s.models.calibration_file), "/c"),
    ("HUGGING_FACE_HUB", "true", lambda s: s.models.hugging_face_hub, True),
    ("ENGINES", "vLLM, sglang", lambda s: s.serving.engines, {"vllm", "sglang"}),
    ("PRICE_BASIS", "rent", lambda s: s.prices.price_basis, "rent"),
    ("PRICE_BASIS", "own", lambda s: s.prices.price_basis, "own"),
    ("PRICE_TERM", "spot", lambda s: s.prices.price_term, "spot"),
    ("PRICE_PROVIDER", "Nebius", lambda s: s.prices.price_provider, "Nebius"),
    ("PUE", "1.2", lambda s: s.prices.pue, 1.2),
    ("USD_PER_KWH", "0.05", lambda s: s.prices.usd_per_kwh, 0.05),
    ("G_CO2_PER_KWH", "30", lambda s: s.prices.g_co2_per_kwh, 30.0),
    ("PRICES_FILE", "mine.csv", lambda s: str(s.prices.prices_file), "mine.csv"),
    ("ENGINES_ALLOWED", "vllm", lambda s: s.serving.engines, {"vllm"}),
    ("DEPLOYER_MAX_LORAS", "0", lambda s: s.serving.deployer_max_loras, 0),
    *(
        (
            f"IMAGE_{engine}_{kind}".upper(),
            "r/i:t",
            lambda s, key=(engine, kind): s.serving.images,
            {(engine, kind): "r/i:t"},
        )
        for engine, kind in [
            ("vllm", "cuda"),
            ("vllm", "rocm"),
            ("vllm", "hpu"),
            ("vllm", "cpu"),
            ("sglang", "cuda"),
            ("sglang", "rocm"),
            ("sglang", "cpu"),
            ("litellm", "any"),
        ]
    ),
    *(
        (
            name.upper(),
            str(field.default),
            lambda s, name=name: getattr(s.limits, name),
            field.default,
        )
        for name, field in GROUPS["limits"].model_fields.items()
    ),
]  # fmt: skip
"""Every variable with a value of each form that `.env.sample` describes, and what it is read as."""
STARTED_ELSEWHERE = frozenset(
    # Postgres and production have tests of their own; these three need a server to talk to.
    {"DATABASE_URL", "SECRETS_DATABASE_URL", "PSQL_HOST", "ENVIRONMENT"}
    | {"OTEL_EXPORTER_OTLP_ENDPOINT", "SECRET_STORE_NAME", "CONFIGURATION_STORE_NAME"}
)
MOST_FORMS = 2
"""As many forms as any of the other variables has."""
WRONG = [
    ("APP_PORT", "70000"),
    ("APP_PORT", "http"),
    ("LOG_LEVEL", "loud"),
    ("ENVIRONMENT", "staging"),
    ("MIGRATE_AT_START", "perhaps"),
    ("RETENTION_DAYS", "nan"),
    ("MODEL_REGISTRY_POD_DIR", "relative"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
    ("DATABASE_URL", "mysql://u:S3cretWord@db/n"),
    ("DATABASE_URL", "postgresql+psycopg://u:S3cretWord@db/n"),
    ("DATABASE_URL", "postgresql+asyncpg://u:S3cretWord@db/n"),
    ("DATABASE_URL", "postgresql://u:S3cretWord@db:port/n"),
    ("DATABASE_URL", "postgresql://"),
    ("DATABASE_URL", "sqlite://"),
    ("DATABASE_URL", "sqlite:///:memory:"),
    ("DATABASE_URL", "budsim.db"),
]


@pytest.fixture(autouse=True)
def nobodys_environment(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read no `.env` and no settings of whoever runs the tests."""
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    for variable in {name for name, *_ in FORMS} & set(os.environ):
        monkeypatch.delenv(variable)


@pytest.mark.parametrize(("variable", "value", "found", "wanted"), FORMS)
def test_every_documented_form_is_read(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    found: Callable[[Settings], Any],
    wanted: object,
):
    """One variable is set; the setting has its value."""
    monkeypatch.setenv(variable, value)
    assert found(read_settings()) == wanted


def test_every_image_of_an_engine_has_a_setting():
    """Each kind of device that an engine has an image for, and LiteLLM's proxy; no other."""
    wanted = {("litellm", "any")} | {
        (engine, entry["kind"])
        for engine in ("vllm", "sglang")
        for entry in load_table(engine, "images")
    }
    names = {name for name in GROUPS["serving"].model_fields if name.startswith("image_")}
    assert names == {f"image_{engine}_{kind}" for engine, kind in wanted}


def test_no_setting_is_left_out():
    """The table above has every variable."""
    every = {name.upper() for group in GROUPS.values() for name in group.model_fields}
    assert every <= {name for name, *_ in FORMS}


def starts(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Return whether the service lives when it is started with these variables."""
    for variable, value in environment.items():
        monkeypatch.setenv(variable, value)
    with TestClient(create_app()) as client:
        return client.get("/health").status_code == 200


@pytest.mark.parametrize("turn", range(MOST_FORMS))
def test_it_starts_with_every_documented_form(
    turn: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """All variables at a time, each in its first form, its second, and so on."""
    for name in ("registry", "regressors"):
        (tmp_path / name).mkdir()
    (tmp_path / "inventory.json").write_text("[]")
    (tmp_path / "prices.json").write_text('[{"device": "H100-SXM", "usd_per_h": 2.5}]')
    files = {
        "MODEL_REGISTRY_DIR": str(tmp_path / "registry"),
        "PRETRAINED_MODELS_DIR": str(tmp_path / "regressors"),
        "INVENTORY_FILE": str(tmp_path / "inventory.json"),
        "PRICES_FILE": str(tmp_path / "prices.json"),
        "CALIBRATION_FILE": "",
    }
    chosen: dict[str, list[str]] = {}
    for variable, value, *_ in FORMS:
        if variable not in STARTED_ELSEWHERE:
            chosen.setdefault(variable, []).append(value)
    values = {name: forms[turn] for name, forms in chosen.items() if turn < len(forms)}
    database = {"DATABASE_URL": f"sqlite:///{tmp_path}/b.db", "WORKER_PROCESSES": "0"}
    assert starts(
        values | {name: files[name] for name in files if turn == 0} | database, monkeypatch
    )


def test_it_starts_with_the_parts_of_a_postgres_url(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
):
    """Host, port, user and database by themselves, as the callers' platform names them."""
    url = sa.make_url(postgres_url)
    parts = {
        "PSQL_HOST": url.host,
        "PSQL_PORT": url.port,
        "PSQL_USER": url.username,
        "PSQL_PASSWORD": url.password,
        "PSQL_DB_NAME": url.database,
    }
    environment = {name: str(part) for name, part in parts.items() if part}
    assert starts(environment | {"WORKER_PROCESSES": "0"}, monkeypatch)
    assert read_settings().database.url.startswith("postgresql+psycopg2://")


@pytest.mark.parametrize(("variable", "value"), WRONG)
def test_a_wrong_value_is_named_in_one_line(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
):
    """The message names the variable, and does not repeat a value that may be a secret."""
    monkeypatch.setenv(variable, value)
    with pytest.raises(InvalidInput, match=variable) as refused:
        read_settings()
    assert "\n" not in str(refused.value)
    assert "S3cretWord" not in str(refused.value)


def test_the_parts_of_a_postgres_url_may_be_given_one_by_one(monkeypatch: pytest.MonkeyPatch):
    """Also with a password that has to be quoted, and beside the default of `.env.sample`."""
    monkeypatch.setenv("DATABASE_URL", "sqlite:///budsim.db")
    for name, value in {
        "PSQL_HOST": "db",
        "PSQL_PORT": "5433",
        "SECRETS_PSQL_USER": "bud",
        "SECRETS_PSQL_PASSWORD": "p@ss/w:rd",
        "PSQL_DB_NAME": "sim",
    }.items():
        monkeypatch.setenv(name, value)
    url = sa.make_url(read_settings().database.url)
    assert (url.username, url.password, url.host, url.port, url.database) == (
        "bud",
        "p@ss/w:rd",
        "db",
        5433,
        "sim",
    )


def test_a_database_url_wins_over_its_parts(monkeypatch: pytest.MonkeyPatch):
    """What is given as a whole is used as a whole."""
    monkeypatch.setenv("PSQL_HOST", "other")
    monkeypatch.setenv("DATABASE_URL", "postgresql://u@db/n")
    assert read_settings().database.url == "postgresql+psycopg2://u@db/n"


def test_secrets_do_not_show(monkeypatch: pytest.MonkeyPatch):
    """Neither in `repr` nor in `str`, wherever they came from."""
    monkeypatch.setenv("DATABASE_URL", "postgresql://u:S3cretWord@db/n")
    monkeypatch.setenv("PSQL_PASSWORD", "S3cretWord")
    monkeypatch.setenv("APP_API_TOKEN", "S3cretWord")
    monkeypatch.setenv("DAPR_API_TOKEN", "S3cretWord")
    assert "S3cretWord" not in f"{read_settings()!r} {read_settings()}"


def test_a_port_makes_a_sidecar(monkeypatch: pytest.MonkeyPatch):
    """Without Dapr ports there is no sidecar; either port makes one."""
    assert not read_settings().dapr.has_sidecar
    monkeypatch.setenv("DAPR_GRPC_PORT", "50001")
    assert read_settings().dapr.has_sidecar
