"""Parts of a small real service: a cluster, a simulation of known answer, a stand-in sidecar."""

import json
import threading
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import unquote, urlparse

from fastapi.testclient import TestClient

from budsim.commons.config import (
    AppSettings,
    DaprSettings,
    InventorySettings,
    LimitSettings,
    Settings,
)
from budsim.commons.database_settings import DatabaseSettings
from budsim.commons.precision import Precision
from budsim.commons.units import GIGA, TERA
from budsim.engine_ops.base import Launch, Metadata, ReplicaConfig
from budsim.hardware_ops.cluster import Cluster, DeviceLabel, DevicePool, Node
from budsim.hardware_ops.device import Device, DeviceKind, Link
from budsim.performance.predictions import Basis
from budsim.simulator.planning.plans import (
    Explanation,
    Figure,
    NextReplica,
    Outcome,
    Placement,
    Plan,
    PredictedMemory,
    PredictedService,
    Rejection,
    ReplicaGroup,
)
from budsim.simulator.planning.question import Question
from tests.waiting import wait_for

CLUSTER_ID = "4f2647a2-a20e-581a-ab8e-eb8be653d4e3"
OTHER_CLUSTER_ID = "e285fa0a-5a4a-58d1-abe9-929902ef5502"
MODEL = "meta-llama/Llama-3.1-8B-Instruct"
ENDED = ("COMPLETED", "FAILED", "TERMINATED")


class MakeClient(Protocol):
    """Starts the service for one test."""

    def __call__(self, **overrides: Any) -> TestClient:
        """Start it with the test's own settings groups (`app`...), `inventory` or `workers`."""
        ...


def service_settings(url: str, **groups: Any) -> Settings:
    """Return settings of a test: nothing from the environment's `.env`, quick loops."""
    given = {
        "app": AppSettings(_env_file=None),
        "database": DatabaseSettings(_env_file=None, database_url=url),
        "dapr": DaprSettings(_env_file=None),
        "inventory": InventorySettings(_env_file=None),
        "limits": LimitSettings(_env_file=None, worker_processes=0, poll_s=0.05),
    }
    return Settings(**(given | groups))


def ended(client: TestClient, workflow_id: str) -> str:
    """Return the status a workflow ends with."""

    def status() -> str | None:
        now = client.get(f"/workflow/{workflow_id}/status").json()["status"]
        return now if now in ENDED else None

    result: str = wait_for(status)
    return result


def known_answer(
    question: Question,
    _predictor: object,
    *,
    known: object = None,
    progress: Callable[[float], None],
) -> Outcome:
    """Answer with three plans per cluster, dearer and dearer.

    The second misses the targets by 20 %.
    """
    for quarter in (0.25, 0.5, 0.75, 1.0):
        progress(quarter)
    plans = [
        plan(
            cluster.cluster_id,
            config_id=f"config-{index}",
            cost=1.0 + index,
            error_rate=0.2 * (index == 1),
        )
        for index in range(3)
        for cluster in question.clusters
    ]
    rejection = Rejection(
        cluster_id=CLUSTER_ID, subject="Frobnicator-9000", reason="unknown device", devices=2
    )
    return Outcome(plans=tuple(plans), rejections=(rejection,), evaluations=42)


def h100_cluster(cluster_id: str) -> Cluster:
    """Return one node with eight H100."""
    pool = DevicePool(device=h100(), label=LABEL, total=8, available=8, memory_free_bytes=80 * GIGA)
    return Cluster(
        cluster_id=cluster_id, name="lab", nodes=(Node(node_id="n0", name="gpu-0", pools=(pool,)),)
    )


LABEL = DeviceLabel(
    name="H100-SXM", raw_name="NVIDIA-H100-80GB-HBM3", device_model="H100-SXM", wire_type="cuda"
)


def h100() -> Device:
    """Return an H100 with round figures."""
    link = Link(name="NVLink 4", bandwidth_bytes_per_s=450 * GIGA, domain_devices=8)
    return Device(
        name="H100-SXM",
        kind=DeviceKind.CUDA,
        vendor="nvidia",
        generation="sm90",
        memory_bytes=80 * GIGA,
        memory_bandwidth_bytes_per_s=3.35 * TERA,
        flops_per_s={Precision.BF16: 989 * TERA},
        compute_units=132,
        scale_up=link,
        scale_out=link,
        tdp_w=700,
        price_usd=30_000,
        price_usd_per_h=2.5,
    )


def plan(cluster_id: str, *, config_id: str, cost: float, error_rate: float) -> Plan:
    """Return a plan of two replicas of two devices: TTFT 0.5 s, 25 tokens/s, 10 s end to end."""
    group = replica_group(config_id, cost, error_rate)
    return Plan(
        cluster_id=cluster_id,
        groups=(group,),
        ttft_s=0.5,
        tokens_per_s_per_user=25.0,
        e2e_s=10.0,
        error_rate=error_rate,
        cost_usd_per_h=10.0,
        cost_per_million_tokens_usd=cost,
    )


def replica_group(config_id: str, cost: float, error_rate: float) -> ReplicaGroup:
    """Return the group of `plan`; its memory is 40 + 20 + 2 + 1 GiB."""
    gib = 2.0**30
    return ReplicaGroup(
        config_id=config_id,
        engine="vllm",
        kind=DeviceKind.CUDA,
        label=LABEL,
        config=ReplicaConfig(
            device=h100(),
            tp=2,
            weight_precision=Precision.BF16,
            kv_precision=Precision.BF16,
            concurrency=32,
            context_tokens=1280,
        ),
        placements=tuple(
            (Placement(node_id="n0", node_name="gpu-0", pool=0, devices=2),) for _ in range(2)
        ),
        service=PredictedService(
            ttft_s=figure(0.5),
            tpot_s=figure(0.04),
            e2e_s=figure(10.0),
            tokens_per_s_per_user=figure(25.0),
            requests_per_s=figure(3.2),
            basis=Basis.LEARNED,
            in_range=True,
            bound_by="weight bandwidth",
        ),
        memory=PredictedMemory(
            weight_bytes=40 * gib,
            kv_cache_bytes=20 * gib,
            activation_bytes=2 * gib,
            reserved_bytes=gib,
            budget_bytes=72 * gib,
            kv_capacity_tokens=100_000,
        ),
        launch=Launch(
            image="vllm/vllm-openai:v0.32.0",
            model=MODEL,
            command=("vllm", "serve", MODEL),
            args={"tensor-parallel-size": 2},
            envs={"VLLM_LOGGING_LEVEL": "INFO"},
        ),
        metadata=Metadata(
            engine_version="0.32.0",
            tool_calling_parser_type="llama3_json",
            reasoning_parser_type=None,
            architecture_family="llama",
            chat_template=None,
            supports_lora=True,
            supports_pipeline_parallelism=True,
        ),
        explanation=Explanation(
            time_shares={"weight bandwidth": 0.75, "queue": 0.25},
            headroom={"ttft_s": 2.0, "tokens_per_s_per_user": 0.25},
            next_replica=NextReplica(
                devices=2,
                is_free=True,
                ttft_s=0.4,
                tokens_per_s_per_user=30.0,
                e2e_s=8.0,
                cost_per_million_tokens_usd=1.2,
            ),
        ),
        error_rate=error_rate,
        cost_usd_per_h=10.0,
        cost_per_million_tokens_usd=cost,
    )


def figure(value: float) -> Figure:
    """Return a figure that is sure to within 10 % (80 %) and 20 % (90 %)."""
    return Figure(
        value=value, low80=0.9 * value, high80=1.1 * value, low90=0.8 * value, high90=1.2 * value
    )


class StandInSidecar:
    """Dapr's HTTP API as far as budsim uses it.

    `is_down` makes every call fail, `token` is demanded when set.
    """

    def __init__(self) -> None:
        self.states: dict[str, bytes] = {}
        self.secrets: dict[str, dict[str, str]] = {}
        self.configuration: dict[str, str] = {}
        self.published: list[tuple[str, dict[str, Any]]] = []
        self.is_down = False
        self.token: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    @property
    def settings(self) -> DaprSettings:
        """Settings that point the service here."""
        return DaprSettings(
            _env_file=None, dapr_http_port=self._server.server_address[1], dapr_api_token=self.token
        )

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> tuple[int, bytes]:
        """Return status and body, as the sidecar would."""
        parts = [unquote(part) for part in urlparse(path).path.strip("/").split("/")]
        if self.is_down:
            return 500, b"{}"
        if parts[1:] == ["healthz", "outbound"]:
            return 204, b""
        if self.token and token != self.token:
            return 401, b"{}"
        if method == "POST" and (parts[1], parts[3]) == ("state", "bulk"):
            return 200, json.dumps([self._item(key) for key in json.loads(body)["keys"]]).encode()
        if method == "GET" and parts[1] == "secrets":
            return (
                (200, json.dumps(self.secrets[parts[3]]).encode())
                if parts[3] in self.secrets
                else (500, b"{}")
            )
        if method == "GET" and parts[1] == "configuration":
            return 200, json.dumps(
                {key: {"value": value} for key, value in self.configuration.items()}
            ).encode()
        if method == "POST" and parts[1] == "publish":
            self.published.append((parts[3], json.loads(body)))
            return 204, b""
        return 404, b"{}"

    def _item(self, key: str) -> dict[str, object]:
        if key not in self.states:
            return {"key": key}
        return {
            "key": key,
            "data": json.loads(self.states[key]),
            "etag": str(zlib.crc32(self.states[key])),
        }


def _handler(sidecar: StandInSidecar) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._reply("GET")

        def do_POST(self) -> None:
            self._reply("POST")

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

        def _reply(self, method: str) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, body = sidecar.answer(
                method, self.path, self.headers.get("dapr-api-token"), sent
            )
            self.send_response(status)
            if status != 204:
                self.send_header("content-length", str(len(body)))
            self.end_headers()
            if status != 204:
                self.wfile.write(body)

    return Handler


def assert_refused(answer: Any, code: int, kind: str, told: str) -> None:
    """Check an error envelope."""
    found = answer.json()
    assert answer.status_code == code
    assert set(found) == {"object", "message", "type", "param", "code"}
    assert (found["object"], found["type"], found["code"]) == ("error", kind, code)
    assert told in found["message"]
