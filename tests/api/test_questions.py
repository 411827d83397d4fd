"""The Python API answers what the terminal answers, in values that notebooks show."""

import json
from dataclasses import replace

import pandas as pd
import pytest

import budsim
from budsim.cli import run
from budsim.commons.errors import InvalidInput
from tests.simulator.situations import make_cluster

MODEL = "meta-llama/Llama-3.1-8B-Instruct"
INVENTORY = """
clusters:
  - name: lab
    nodes:
      - {name: gpu, count: 2, devices: [{device: H100-SXM, count: 4}]}
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Path of a short YAML with two nodes of four H100."""
    file = tmp_path_factory.mktemp("inventory") / "lab.yaml"
    file.write_text(INVENTORY)
    return file


@pytest.fixture(scope="module")
def traffic():
    """Sixteen short requests in flight."""
    return budsim.Traffic.closed(concurrency=16, input_tokens=512, output_tokens=128)


@pytest.fixture(scope="module")
def found(cluster, traffic):
    """Answer a question by physics alone."""
    return budsim.simulate(
        model=MODEL,
        cluster=cluster,
        traffic=traffic,
        targets=budsim.Targets(ttft_s=0.5),
        analytic=True,
    )


def test_the_answer_is_that_of_the_terminal(found, cluster, capsys):
    """`to_json` is what `budsim simulate --json` prints for the same question."""
    asked = ["--model", MODEL, "--cluster", str(cluster), "--ttft-ms", "500", "--analytic"]
    asked += ["--input-tokens", "512", "--output-tokens", "128", "--concurrency", "16", "--json"]
    assert run(["simulate", *asked]) == 0
    assert json.loads(found.to_json()) == json.loads(capsys.readouterr().out)


def test_plans_become_a_table(found):
    """`to_pandas` has a row for each plan, best first, with a range around every figure."""
    table = found.to_pandas()
    assert len(table) == len(found) == len(found.plans)
    best = table.iloc[0]
    assert best.meets_targets
    assert best.ttft_s_low90 < best.ttft_s < best.ttft_s_high90
    assert best.usd_per_h == pytest.approx(found.best.cost_usd_per_h)


def test_clusters_are_paths_or_values(found, cluster, traffic):
    """A file, its clusters and one cluster ask the same question."""
    clusters = budsim.read_clusters(cluster)
    for given in (str(cluster), clusters, clusters[0]):
        again = budsim.simulate(
            model=MODEL,
            cluster=given,
            traffic=traffic,
            targets=budsim.Targets(ttft_s=0.5),
            analytic=True,
        )
        assert again.to_json() == found.to_json()


def test_models_may_be_given_by_their_config(cluster, traffic):
    """The content of a config.json is a model, under its own name."""
    config = {
        "_name_or_path": "lab/small",
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 8192,
        "torch_dtype": "bfloat16",
    }
    found = budsim.simulate(model=config, cluster=cluster, traffic=traffic, analytic=True)
    assert found.question.architecture.model_id == "lab/small"
    assert found.best


def test_a_changed_setting_and_what_starts_the_plan(found):
    """`what_if` shows the plan before and after; `render` prints what starts it."""
    change = found.what_if(tp=2)
    assert (change.before.config.tp, change.after.config.tp) == (1, 2)
    assert "vllm serve" in found.render("command")
    both = found.what_if(tp=2, concurrency=2)
    assert repr(both).startswith("tp=2, concurrency=2:")
    with pytest.raises(InvalidInput, match="what_if: "):
        found.what_if()


def test_nothing_fits_is_an_answer(cluster, traffic):
    """A model that no device holds gives no plans and the reason, and shows both."""
    found = budsim.simulate(
        model="moonshotai/Kimi-K2-Instruct", cluster=cluster, traffic=traffic, analytic=True
    )
    assert found.best is None
    assert found.rejections
    assert "nothing fits" in found._repr_html_()
    assert found.to_pandas().empty


def test_capacity_counts_requests(traffic):
    """A tighter target allows fewer requests in flight; each row holds the plan's figures."""
    served = [
        budsim.capacity(
            model=MODEL,
            cluster=make_cluster((("H100-SXM", 1),)),
            traffic=traffic,
            targets=budsim.Targets(ttft_s=ttft_s),
            analytic=True,
            engines=["vllm"],
        )
        for ttft_s in (0.2, 0.4)
    ]
    tight, loose = (each.to_pandas().concurrency[0] for each in served)
    assert 0 < tight < loose
    assert f"lab serves {tight}" in str(served[0])
    assert served[0].to_dict()["clusters"][0]["concurrency"] == tight


def test_size_lists_the_cheapest_first(traffic):
    """Sets of devices come cheapest first; an unknown device is refused by name."""
    asked = {"model": MODEL, "traffic": traffic, "targets": budsim.Targets(ttft_s=2.0)}
    found = budsim.size(**asked, devices=["H100-SXM", "L4"], analytic=True)
    assert list(found.to_pandas().device) == ["L4", "H100-SXM"]
    assert found.to_dict()["sets"][0]["device"] == "L4"
    assert "1 x L4 is the cheapest" in found.summary()
    with pytest.raises(budsim.NotFound, match="Frobnicator"):
        budsim.size(**asked, devices=["Frobnicator-9000"])


ROW = {
    "device_name": "H100-SXM",
    "device_type": "cuda",
    "engine": "vllm",
    "model_hf": MODEL,
    "tp": 1,
    "input_tokens": 512,
    "output_tokens": 128,
    "concurrency": 16,
    "mode": "serving",
}


def test_rows_are_predicted_in_any_shape():
    """A mapping, a sequence of them and a DataFrame give the same; a bad row says why."""
    table = budsim.predict(ROW, analytic=True).to_pandas()
    assert float(table.pred_ttft_ms[0]) > 0
    assert budsim.predict([ROW], analytic=True).to_pandas().equals(table)
    assert budsim.predict(pd.DataFrame([ROW]), analytic=True).to_pandas().equals(table)
    bad = budsim.predict([ROW, ROW | {"device_name": "Frobnicator"}], analytic=True)
    assert "Frobnicator" in bad.to_pandas().pred_error[1]
    assert bad.summary() == "1 of 2 rows predicted."


def test_mistakes_name_the_value(cluster, traffic):
    """A correction beside `analytic`, an unknown model and an unknown engine are refused."""
    asked = {"cluster": cluster, "traffic": traffic}
    with pytest.raises(InvalidInput, match="calibration"):
        budsim.simulate(model=MODEL, **asked, analytic=True, calibration="site.json")
    with pytest.raises(budsim.NotFound, match="nobody/has-this"):
        budsim.simulate(model="nobody/has-this", **asked)
    with pytest.raises(budsim.BudsimError, match="engine"):
        budsim.simulate(model=MODEL, **asked, engines=["nobody"])
    with pytest.raises(InvalidInput, match="generates no tokens"):
        budsim.simulate(
            model="BAAI/bge-m3", **asked, targets=budsim.Targets(tokens_per_s_per_user=5)
        )


def test_traffic_at_a_rate_has_percentiles(tmp_path):
    """Rows then hold what single requests see, and capacity is the largest rate."""
    file = tmp_path / "one.yaml"
    file.write_text(
        "clusters: [{name: one, nodes: [{name: a, devices: [{device: L4, count: 1}]}]}]"
    )
    asked = {
        "model": MODEL,
        "cluster": file,
        "traffic": budsim.Traffic.at_rate(requests_per_s=0.5, input_tokens=512, output_tokens=64),
        "targets": budsim.Targets(
            percentiles=(budsim.PercentileTarget.named("ttft_p99_s", 5.0),), e2e_s=30
        ),
        "analytic": True,
        "engines": ["vllm"],
    }
    best = budsim.simulate(**asked).to_pandas().iloc[0]
    assert best.ttft_p50_s <= best.ttft_p95_s <= best.ttft_p99_s <= 5.0
    assert best.largest_stable_requests_per_s > 0.5
    served = budsim.capacity(**asked).to_pandas().iloc[0]
    assert 0.5 < served.largest_requests_per_s < best.largest_stable_requests_per_s


def test_an_unknown_option_is_refused_by_name(cluster, traffic):
    """A typo such as `engine` for `engines` must not give another answer without a word."""
    with pytest.raises(InvalidInput, match="engine"):
        budsim.simulate(model=MODEL, cluster=cluster, traffic=traffic, engine="vllm")


def test_guesses_that_never_gain_are_a_reason(cluster, traffic):
    """Where every guess is wrong, plans go without, and the answer says so."""
    asked = {"model": MODEL, "cluster": cluster, "traffic": traffic, "engines": ["vllm"]}
    found = budsim.simulate(**asked, analytic=True, speculative="ngram", acceptance=0.0)
    reasons = {each.subject: each.reason for each in found.outcome.rejections}
    assert reasons["ngram"].startswith("guessing 1, 3, 5, 8 tokens a step ends no request 2 %")
    plain = budsim.simulate(**asked, analytic=True)
    assert "ngram" not in {each.subject for each in plain.outcome.rejections}


def test_a_plan_that_guesses_is_started_with_its_guesses(cluster):
    """What the prediction counts on is in the command and in the answer."""
    few = budsim.Traffic.closed(concurrency=2, input_tokens=512, output_tokens=128)
    found = budsim.simulate(
        model=MODEL,
        cluster=cluster,
        traffic=few,
        analytic=True,
        engines=["vllm"],
        speculative="ngram",
        domain="coding",
    )
    (group,) = json.loads(found.to_json())["configurations"][0]["node_groups"]
    stated = json.loads(group["args"]["speculative-config"])
    guesses = group["speculation"]
    assert stated["num_speculative_tokens"] == guesses["draft_tokens"] > 1
    assert (stated["method"], guesses["drafter"]) == ("ngram", None)
    assert "InstructCoder" in guesses["source"]


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"disaggregated": True}, "disaggregated: is True; expected text"),
        ({"kv_offload_gib": "10"}, "kv_offload_gib: is '10'; expected a number"),
        ({"kv_store_gib": "10"}, "kv_store_gib: is '10'; expected a number"),
        ({"kv_store": 7, "kv_store_gib": 9.0}, "kv_store: is 7; expected text"),
    ],
)
def test_options_of_the_wrong_type_are_named(cluster, traffic, options, told):
    """Python callers may pass anything."""
    with pytest.raises(InvalidInput, match=told):
        budsim.simulate(model=MODEL, cluster=cluster, traffic=traffic, analytic=True, **options)


def test_items_are_media(traffic):
    """Text in place of items is no request without them."""
    with pytest.raises(InvalidInput, match=r"media: is 'x'; expected a budsim\.Media"):
        replace(traffic, media="x")
