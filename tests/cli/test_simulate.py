"""What `budsim simulate` prints: plans for people, JSON for programs."""

import json

import pytest

from budsim.cli import run


def test_a_person_reads_the_plan_at_a_glance(simulate, capsys):
    """The table shows plan, command, cost and rejections; progress is one line on stderr."""
    assert run([*simulate, "--ttft-ms", "2000"]) == 0
    out, err = capsys.readouterr()
    for part in (
        "H100-SXM",
        "USD/Mtok",
        "vllm serve meta-llama/Llama-3.1-8B-Instruct",
        "bound by",
        "met",
        "down",
    ):
        assert part in out
    assert err.startswith("searching: ")
    assert err.endswith(" 100 %\n")


def test_json_is_the_recommendation_and_the_same_each_time(simulate, capsys):
    """L5: the same seed prints the same bytes; the document has the wire's names."""
    texts = []
    for _ in range(2):
        assert run([*simulate, "--json", "--seed", "5"]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    document = json.loads(texts[0])
    assert document["object"] == "cluster_recommendations"
    assert document["recommendations"][0]["metrics"]["error_rate"] == 0
    assert document["configurations"][0]["node_groups"][0]["tp_size"] >= 1
    assert document["reasons"][0]["devices"] == 4


def test_adapters_are_options_of_every_question(simulate, capsys):
    """`--max-loras` reaches the best plan's command; a rank without kernels is refused."""
    assert run([*simulate, "--max-loras", "4", "--max-lora-rank", "32"]) == 0
    out = capsys.readouterr().out
    assert "--enable-lora" in out
    assert "--max-lora-rank 32" in out
    assert run([*simulate, "--max-loras", "4", "--max-lora-rank", "17"]) == 2
    assert "--max-lora-rank" in capsys.readouterr().err


def test_pooling_models_are_told_in_requests(simulate, capsys):
    """A reranker's table has requests/s and no tokens/s; prices keep two digits.

    A target of output tokens/s is refused.
    """
    asked = [
        "BAAI/bge-reranker-v2-m3" if each.startswith("meta-llama") else each for each in simulate
    ]
    assert run([*asked, "--ttft-ms", "500", "--what-if", "concurrency=32"]) == 0
    out = capsys.readouterr().out
    assert "16 requests in flight of 512 tokens" in out
    assert "requests/s" in out
    assert "tok/s/user" not in out
    assert "tokens/s per user" not in out
    assert "0.00" in out
    assert " 0.00 " not in out
    assert run([*asked, "--tokens-per-s-per-user", "5"]) == 2
    assert "--tokens-per-s-per-user" in capsys.readouterr().err


def test_engine_restricts_the_search(simulate, capsys):
    """`--engine sglang` leaves only SGLang's configurations."""
    assert run([*simulate, "--engine", "sglang", "--json"]) == 0
    groups = [
        group
        for each in json.loads(capsys.readouterr().out)["configurations"]
        for group in each["node_groups"]
    ]
    assert {group["engine_type"] for group in groups} == {"sglang"}


def test_nothing_fits_is_an_answer(simulate, capsys, tmp_path):
    """A model no device can hold is exit code 0 with the reason in the table."""
    file = tmp_path / "small.yaml"
    file.write_text(
        "clusters: [{name: edge, nodes: [{name: e, devices: [{device: L4, count: 1}]}]}]"
    )
    assert (
        run([*simulate, "--model", "meta-llama/Llama-3.1-405B-Instruct", "--cluster", str(file)])
        == 0
    )
    out = capsys.readouterr().out
    assert "nothing fits" in out
    assert "weights need" in " ".join(out.split())


def test_a_changed_knob_stands_beside_the_plan(simulate, capsys):
    """`--what-if` adds a table, and in JSON the node groups, before and after."""
    assert run([*simulate, "--what-if", "tp=2", "--what-if", "max-num-seqs=4"]) == 0
    out = capsys.readouterr().out
    assert "as it is" in out
    assert "tp=2" in out
    assert run([*simulate, "--json", "--what-if", "tp=2"]) == 0
    change = json.loads(capsys.readouterr().out)["what_if"][0]
    assert (change["before"]["tp_size"], change["after"]["tp_size"]) == (1, 2)


@pytest.mark.parametrize(
    "change", ["turbo=on", "max_num_seqs", "=3", "tp=4,tp=8", "tp=many", "prefill_x=2", "rate=x"]
)
def test_a_change_no_plan_can_have_is_refused_before_the_search(simulate, capsys, change):
    """The option is named once, and nothing is searched."""
    assert run([*simulate, "--what-if", change]) == 2
    err = capsys.readouterr().err
    assert err.count("--what-if") == 1
    assert "searching" not in err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--max-lora-rank", "64"], "--max-lora-rank: is given without adapters"),
        (["--basis", "own", "--own", "foo=1"], "--own: 'foo' is no assumption"),
    ],
)
def test_what_would_change_nothing_is_refused(simulate, capsys, options, told):
    """By the option that was given."""
    assert run([*simulate, *options]) == 2
    assert told in capsys.readouterr().err


def test_changed_pools_stand_beside_the_plan(simulate, capsys):
    """Both pools are told before and after, in the table and in JSON."""
    asked = [*simulate, "--disaggregated", "only", "--what-if", "prefill_workers=2"]
    assert run(asked) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "as it is: prefill: 1 x H100-SXM" in out
    assert run([*asked, "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["what_if"][0]
    assert (change["prefill_before"]["replicas"], change["prefill_after"]["replicas"]) == (1, 2)
    assert change["after"]["role"] == "decode"


def test_a_file_that_is_no_calibration_is_named_by_its_option(simulate, capsys, tmp_path):
    """Not by the cluster's, which is read well."""
    file = tmp_path / "site.json"
    file.write_text("{}")
    assert (
        run([*(each for each in simulate if each != "--analytic"), "--calibration", str(file)]) == 2
    )
    err = capsys.readouterr().err
    assert "--calibration" in err
    assert "--cluster" not in err


def test_traffic_at_a_rate_is_answered_with_percentiles(cluster, lengths, capsys):
    """A table of its own shows the percentiles, the rate carried and the share of it left over."""
    asked = ["simulate", "--cluster", cluster, *lengths, "--rate", "5", "--lengths", "lognormal"]
    assert run([*asked, "--ttft-p99-ms", "2000", "--itl-p99-ms", "200"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "5 requests/s (poisson) of 512 + 128 tokens on average, at most" in out
    assert "p99 of TTFT <= 2000 ms, p99 of gap between tokens <= 200 ms" in out
    assert "what single requests see" in out
    assert "% left" in out
    assert "TTFT p99" in out


def test_a_rate_beyond_every_plan_is_unstable(cluster, lengths, capsys):
    """No mean is printed for a queue that grows for ever, but the rate that would be carried."""
    assert run(["simulate", "--cluster", cluster, *lengths, "--rate", "100000"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "nothing fits" in out
    assert "unstable" in out


def test_goodput_makes_targets_limits_of_single_requests(simulate, capsys):
    """The targets are then told without "mean", and the share of good requests is shown."""
    assert run([*simulate, "--goodput", "0.9", "--ttft-ms", "2000"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "0.9 of requests within TTFT <= 2000 ms" in out
    assert "good" in out


def test_equal_lengths_are_pointed_out(simulate, capsys):
    """A note says that the server refuses longer requests.

    There is no note when the lengths follow a distribution.
    """
    assert run(simulate) == 0
    assert "The server refuses requests of more than 640 tokens" in capsys.readouterr().out
    assert run([*simulate, "--max-input-tokens", "4000"]) == 0
    assert "The server refuses requests" not in capsys.readouterr().out


def test_another_rate_can_be_tried(cluster, lengths, capsys):
    """`--what-if rate=` shows the best plan under more load; in a closed loop there is no rate."""
    asked = ["simulate", "--cluster", cluster, *lengths, "--engine", "vllm"]
    assert run([*asked, "--rate", "2", "--what-if", "rate=8", "--json"]) == 0
    change = json.loads(capsys.readouterr().out)["what_if"][0]
    assert change["after"]["ttft"] > change["before"]["ttft"]
    assert run([*asked, "--concurrency", "2", "--what-if", "rate=8"]) == 2
    assert "--what-if: rate: a closed loop" in capsys.readouterr().err


def test_images_are_tokens_and_limits_of_the_command(simulate, capsys):
    """Two images grow the prompt by 2 x 1,026 tokens and are told to the engine."""
    images = ["--images-per-request", "2", "--image-size", "1024x1024"]
    asked = [
        "Qwen/Qwen3-VL-8B-Instruct" if each.startswith("meta-llama") else each for each in simulate
    ]
    assert run([*asked, *images]) == 0
    out = capsys.readouterr().out
    assert f"of {512 + 2 * 1026} + 128 tokens" in out
    assert "limit-mm-" in out
    assert "2,052 prompt tokens; their encoder takes" in out
    assert run([*simulate, *images]) == 2
    assert "--images-per-request" in capsys.readouterr().err


def test_host_memory_is_a_flag_and_its_gain_is_told(simulate, capsys):
    """Prefixes larger than the device are found on the host."""
    prefixes = ["--prefix-hits", "0.8", "--prefix-set-tokens", "5e7", "--engine", "vllm"]
    assert run([*simulate, *prefixes, "--kv-offload-gib", "2000"]) == 0
    out = capsys.readouterr().out
    assert "--kv-offloading-size" in out
    assert "of host memory" in out
    assert run([*simulate, *prefixes, "--kv-offload-gib", "-1"]) == 2
    assert "--kv-offload-gib" in capsys.readouterr().err
    assert run([*simulate, "--prefix-hits", "0.8", "--turns", "4"]) == 2
    assert "--prefix-hits" in capsys.readouterr().err


def test_a_store_of_all_replicas_is_a_flag_and_its_gain_is_told(simulate, capsys):
    """Prefixes larger than the device are found in the store, whichever replica computed them."""
    prefixes = ["--prefix-hits", "0.8", "--prefix-set-tokens", "5e7", "--engine", "vllm"]
    longer = ["--input-tokens", "8000"]
    assert run([*simulate, *longer, *prefixes, "--kv-store-gib", "9000"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "MooncakeStoreConnector" in out
    assert "in 9,000 GiB of the store of all replicas" in out
    assert run([*simulate, *prefixes, "--kv-store-gib", "9", "--kv-store", "memcached"]) == 2
    assert "--kv-store: 'memcached' is not known" in capsys.readouterr().err
    assert run([*simulate, *prefixes, "--kv-store-gb-per-s", "9"]) == 2
    assert "--kv-store-gb-per-s" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_exist_yet_is_said_to(simulate, capsys):
    """`--quantize` tells first how the weights are made, and which are published."""
    assert run([*simulate, "--quantize", "--tokens-per-s-per-user", "150"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.index("first: quantize.") < out.index("vllm serve")
    assert "--format recipe" in out
    assert "or load a checkpoint published in " in out
    assert run(simulate) == 0
    assert "first: quantize" not in capsys.readouterr().out


def test_pools_are_told_with_their_router(simulate, capsys):
    """Both groups state their part, and the router is told every worker's address."""
    assert (
        run([*simulate, "--engine", "vllm", "--disaggregated", "only", "--risk", "expected"]) == 0
    )
    out = capsys.readouterr().out
    assert "prefill: " in out
    assert "decode: " in out
    assert "vllm-router --vllm-pd-disaggregation --prefill http://gpu-0:8000" in out


def test_an_unknown_wish_for_pools_names_its_option(simulate, capsys):
    """Only off, also and only are known."""
    assert run([*simulate, "--disaggregated", "maybe"]) == 2
    assert "disaggregated" in capsys.readouterr().err
