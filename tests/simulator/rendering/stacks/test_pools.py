"""Files for stacks that start prefill and decode workers, and refusals of those that do not."""

from __future__ import annotations

import json

import pytest
import yaml

from budsim.commons.errors import InvalidInput
from budsim.engine_ops.shared.arguments import parse_command_line
from budsim.simulator.planning.question import Disaggregation
from budsim.simulator.rendering import FORMATS, OF_POOLS, WATCHES, Additions, render
from tests.engine_ops.samples import real_arguments
from tests.simulator.rendering.stacks.published import check_stack
from tests.simulator.rendering.validators import check_compose, check_manifests
from tests.simulator.situations import make_cluster, make_question


@pytest.fixture(scope="module")
def pools(document) -> dict[str, str]:
    """Return plans of two pools on eight H100 by engine: three workers or more."""
    found = {}
    for engine in ("vllm", "sglang"):
        question = make_question(
            make_cluster((("H100-SXM", 8),)),
            input_tokens=4000,
            concurrency=64,
            engines=frozenset({engine}),
            targets={"ttft_s": 0.5, "tokens_per_s_per_user": 100.0},
            disaggregation=Disaggregation.ONLY,
            analytic_only=True,
        )
        found[engine] = json.dumps(document(question))
    return found


def group(plan: str, role: str) -> dict:
    """Return the node group of one pool."""
    groups = json.loads(plan)["configurations"][0]["node_groups"]
    return next(each for each in groups if each["role"] == role)


@pytest.mark.parametrize("form", ["dynamo", "llm-d", "kserve-llm", "ray-serve", "aibrix"])
def test_files_name_published_fields_only(pools, form):
    """Every field of a file for two pools is one that its project publishes."""
    assert check_stack(form, render(pools["vllm"], form))


@pytest.mark.parametrize("form", [form for form in FORMATS if form not in OF_POOLS])
def test_other_formats_refuse_pools_by_name(pools, form):
    """They name the formats that start them."""
    with pytest.raises(InvalidInput) as refused:
        render(pools["vllm"], form)
    told = "is not for" if form in WATCHES else "does not start"
    assert f"{form} {told} prefill and decode pools" in str(refused.value)
    assert "dynamo" in refused.value.expected


@pytest.mark.parametrize("form", ["llm-d", "kserve-llm", "ray-serve"])
def test_stacks_of_vllm_refuse_other_pools(pools, form):
    """Their proxies speak vLLM's protocol of transfers; the formats named start them."""
    with pytest.raises(InvalidInput, match="sglang") as refused:
        render(pools["sglang"], form)
    told = refused.value.expected.removesuffix(", or another plan")
    named = told.removeprefix("one of ").replace(" or ", ", ").split(", ")
    assert {"kubernetes", "dynamo", "aibrix"} <= set(named)
    for other in named:
        assert render(pools["sglang"], other)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_dynamo_tells_workers_their_part(pools, engine):
    """A worker service for each pool, with as many replicas as the plan."""
    graph = yaml.safe_load(render(pools[engine], "dynamo"))
    assert graph["spec"]["backendFramework"] == engine
    frontend, *workers = graph["spec"]["components"]
    assert frontend["type"] == "frontend"
    assert [each["type"] for each in workers] == ["prefill", "decode"]
    for each in workers:
        role = each["type"]
        assert each["replicas"] == group(pools[engine], role)["replicas"]
        pod = each["podTemplate"]["spec"]
        args = pod["containers"][0]["args"]
        assert args.count("--disaggregation-mode") == 1
        assert args[args.index("--disaggregation-mode") + 1] == role
        assert pod["nodeSelector"] == {"kubernetes.io/hostname": "node-0"}


def test_llm_d_puts_decode_workers_behind_the_proxy(pools):
    """The proxy has the service's port; the decode worker listens on the proxy's target."""
    values = yaml.safe_load(render(pools["vllm"], "llm-d"))
    assert values["routing"]["servicePort"] == 8000
    target = values["routing"]["proxy"]["targetPort"]
    words = values["decode"]["containers"][0]["command"]
    assert words[words.index("--port") + 1] == str(target)
    first = values["prefill"]["containers"][0]["command"]
    assert first[first.index("--port") + 1] == "8000"
    assert "kv_producer" in " ".join(first)
    assert values["prefill"]["replicas"] == group(pools["vllm"], "prefill")["replicas"]


def test_kserve_has_one_service_for_both_pools(pools):
    """Main workers decode; the prefill section has workers of their own."""
    spec = yaml.safe_load(render(pools["vllm"], "kserve-llm"))["spec"]
    assert spec["replicas"] == group(pools["vllm"], "decode")["replicas"]
    assert spec["prefill"]["replicas"] == group(pools["vllm"], "prefill")["replicas"]
    words = spec["template"]["containers"][0]["args"]
    assert "kv_consumer" in str(parse_command_line(words, real_arguments("vllm")))
    assert spec["template"]["containers"][0]["startupProbe"]["httpGet"]["port"] == 8001


def test_a_pod_tells_its_own_address(pools):
    """The side channel of NIXL is at the pod's address, which is read first."""
    spec = yaml.safe_load(render(pools["vllm"], "kserve-llm"))["spec"]
    names = [each["name"] for each in spec["template"]["containers"][0]["env"]]
    assert names.index("POD_IP") < names.index("VLLM_NIXL_SIDE_CHANNEL_HOST")


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_commands_number_ports_and_end_with_the_router(pools, engine):
    """Workers of the only node have ports of their own; the router is told each of them."""
    text = render(pools[engine], "command")
    router = [line for line in text.splitlines() if line and not line.startswith("#")][-1]
    workers = sum(
        each["replicas"] for each in json.loads(pools[engine])["configurations"][0]["node_groups"]
    )
    assert router.count("http://node-0:") == workers
    assert len(set(router.split())) >= workers
    assert "==" in text.partition("pip install ")[2].split()[0]
    port = "VLLM_NIXL_SIDE_CHANNEL_PORT=5700" if engine == "vllm" else "--port 30100"
    assert port in text


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_compose_starts_the_router_after_the_workers(pools, engine):
    """On one node the router waits until every worker answers; it is told each of them."""
    services = check_compose(render(pools[engine], "compose"))["services"]
    router = services.pop("router")
    assert set(router["depends_on"]) == set(services)
    assert all(each["condition"] == "service_healthy" for each in router["depends_on"].values())
    told = " ".join(router["command"])
    for service in services.values():
        words = service["command"]
        assert f"http://node-0:{words[words.index('--port') + 1]}" in told
    devices = [
        device
        for service in services.values()
        for each in service["deploy"]["resources"]["reservations"]["devices"]
        for device in each["device_ids"]
    ]
    assert len(devices) == len(set(devices))


def test_compose_leaves_workers_of_other_nodes_to_the_router(pools):
    """Services of other profiles would be started here: the router waits for them by itself."""
    document = json.loads(pools["vllm"])
    for each in document["configurations"][0]["node_groups"]:
        for number, replica in enumerate(each["placements"]):
            replica[0]["node"] = f"{each['role']}-{number}"
    services = check_compose(render(json.dumps(document), "compose"))["services"]
    assert services["router"]["profiles"] == ["router"]
    assert "depends_on" not in services["router"]
    assert "http://prefill-0:8000" in services["router"]["command"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_kubernetes_gives_each_worker_an_address(pools, engine):
    """Stateful sets with a service of their own; the router is told the name of every pod."""
    manifests = check_manifests(render(pools[engine], "kubernetes"))
    sets = [each for each in manifests if each["kind"] == "StatefulSet"]
    services = {each["metadata"]["name"]: each for each in manifests if each["kind"] == "Service"}
    (router,) = (each for each in manifests if each["kind"] == "Deployment")
    container = router["spec"]["template"]["spec"]["containers"][0]
    told = [word for word in container["command"] if word.startswith("http://")]
    pods = []
    for each in sets:
        name, spec = each["metadata"]["name"], each["spec"]
        assert services[name]["spec"]["clusterIP"] == "None"
        assert services[name]["spec"]["selector"] == spec["selector"]["matchLabels"]
        port = services[name]["spec"]["ports"][0]["port"]
        pods += [f"http://{name}-{k}.{name}:{port}" for k in range(spec["replicas"])]
    assert told == pods
    assert manifests[-2] is router
    port = container["command"][container["command"].index("--port") + 1]
    assert services["llama-3-1-8b-instruct-router"]["spec"]["ports"][0]["port"] == int(port)


def test_kubernetes_runs_wide_workers_as_leader_worker_sets(pools):
    """A decode worker over two nodes: its leader answers, and each pod tells its own address."""
    document = json.loads(pools["vllm"])
    decode = document["configurations"][0]["node_groups"][1]
    decode["placements"] = [[{"node": "a", "devices": 1}, {"node": "b", "devices": 1}]]
    decode["replicas"], decode["tp_size"] = 1, 2
    decode["args"]["tensor-parallel-size"] = 2
    manifests = check_manifests(render(json.dumps(document), "kubernetes"))
    (wide,) = (each for each in manifests if each["kind"] == "LeaderWorkerSet")
    name = wide["metadata"]["name"]
    # The set makes the service of its own name.
    assert [each["kind"] for each in manifests if each["metadata"]["name"] == name] == [
        "LeaderWorkerSet"
    ]
    router = manifests[-2]["spec"]["template"]["spec"]["containers"][0]
    assert f"http://{name}-0.{name}:8000" in router["command"]
    pod = wide["spec"]["leaderWorkerTemplate"]["leaderTemplate"]["spec"]["containers"][0]
    assert {"name": "VLLM_NIXL_SIDE_CHANNEL_HOST", "value": "$(POD_IP)"} in pod["env"]


def test_pipelines_are_started_by_files_whose_router_is_known(document):
    """Prefill workers of several stages: manifests start them, stacks are refused by name."""
    question = make_question(
        make_cluster(*[(("L40S", 8),)] * 2),
        model="meta-llama/Llama-3.3-70B-Instruct",
        input_tokens=4000,
        concurrency=8,
        engines=frozenset({"vllm"}),
        disaggregation=Disaggregation.ONLY,
        analytic_only=True,
    )
    plan = json.dumps(document(question))
    assert group(plan, "prefill")["args"]["pipeline-parallel-size"] > 1
    assert check_manifests(render(plan, "kubernetes"))
    assert check_compose(render(plan, "compose"))
    text = render(plan, "command")
    router = [line for line in text.splitlines() if line and not line.startswith("#")][-1]
    assert "--kv-connector mooncake --prefill http://node-0:8000 8998" in router
    assert "VLLM_MOONCAKE_BOOTSTRAP_PORT=8998" in text
    for form in ("dynamo", "llm-d", "kserve-llm", "ray-serve", "aibrix"):
        with pytest.raises(InvalidInput, match="prefill workers of vLLM that are pipelines"):
            render(plan, form)


def test_litellm_leads_to_the_router_of_pools(pools):
    """One target, at the port of the router; fallbacks belong to LiteLLM."""
    config = yaml.safe_load(render(pools["vllm"], "litellm"))
    (target,) = config["model_list"]
    assert target["litellm_params"]["api_base"] == "http://node-0:7999/v1"
    for form in ("compose", "kubernetes"):
        with pytest.raises(InvalidInput, match="fallback") as refused:
            render(pools["vllm"], form, additions=Additions(fallbacks=("gpt-4o-mini",)))
        assert "litellm" in refused.value.expected


def test_ray_serve_builds_an_application_of_two_pools(pools):
    """Each pool has its own replicas and role; Ray itself says where they agree on transfers."""
    application = yaml.safe_load(render(pools["vllm"], "ray-serve"))["applications"][0]
    assert application["import_path"] == "ray.serve.llm:build_pd_openai_app"
    for role, told in (("prefill", "kv_producer"), ("decode", "kv_consumer")):
        config = application["args"][f"{role}_config"]
        count = config["deployment_config"]["autoscaling_config"]["min_replicas"]
        assert count == group(pools["vllm"], role)["replicas"]
        assert config["engine_kwargs"]["kv_transfer_config"]["kv_role"] == told
        assert "runtime_env" not in config


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_aibrix_labels_the_workers_of_both_pools(pools, engine):
    """The gateway pairs workers of one set; requests are locked to its strategy of pools."""
    documents = list(yaml.safe_load_all(render(pools[engine], "aibrix")))
    workers = [each for each in documents if each["kind"] == "Deployment"]
    found = [each["spec"]["template"]["metadata"] for each in workers]
    assert [each["labels"]["role-name"] for each in found] == ["prefill", "decode"]
    assert len({each["labels"]["roleset-name"] for each in found}) == 1
    config = json.loads(found[0]["annotations"]["model.aibrix.ai/config"])
    assert config["lockedRoutingStrategy"] == "pd"
    port = found[0]["annotations"].get("model.aibrix.ai/sglang-bootstrap-port")
    assert port == ("8998" if engine == "sglang" else None)
