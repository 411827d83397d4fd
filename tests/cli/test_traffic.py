"""Options become traffic, and what contradicts itself is refused by its option."""

from pathlib import Path

import pytest
import typer

from budsim.cli.options import LengthOptions, LoadOptions
from budsim.cli.traffic import traffic_of
from budsim.commons.errors import InvalidInput
from budsim.performance.lengths import FixedLength, LognormalLength, UniformLength
from budsim.performance.traffic import ClosedLoop, OpenLoop, Process

# A trace without the lengths that `traffic` gives by default.
OF_TRACE = {"trace": Path("x.csv"), "input_tokens": None, "output_tokens": None}


def traffic(**options: object):
    """Return the traffic of options, by default sixteen requests of 512 + 128 tokens in flight."""
    given = {"input_tokens": 512, "output_tokens": 128} | options
    load = {
        name: given.pop(name)
        for name in ("concurrency", "rate", "arrival", "trace")
        if name in given
    }
    lengths = LengthOptions(**given)
    return traffic_of(lengths, LoadOptions(**(load or {"concurrency": 16})))


def test_requests_in_flight_are_a_closed_loop():
    """Without a law, every request has the mean length."""
    asked = traffic(prefix_hits=0.5)
    assert asked.arrivals == ClosedLoop(concurrency=16)
    assert (asked.prompt, asked.output) == (FixedLength(tokens=512), FixedLength(tokens=128))
    assert asked.prefix_hit_share == 0.5


def test_a_rate_is_an_open_loop():
    """The process of arrivals is Poisson unless it is named."""
    assert traffic(rate=3.0).arrivals == OpenLoop(requests_per_s=3.0)
    asked = traffic(rate=3.0, arrival="gamma:2.5")
    assert asked.arrivals == OpenLoop(requests_per_s=3.0, process=Process.GAMMA, variation=2.5)


def test_lengths_may_vary():
    """One law holds for both, two laws for prompts and answers; uniform bounds state a mean."""
    both = traffic(lengths="lognormal:0.5")
    assert both.prompt == LognormalLength(mean_tokens=512, variation=0.5)
    assert both.output == LognormalLength(mean_tokens=128, variation=0.5)
    each = traffic(lengths="uniform:100-900,fixed", input_tokens=None)
    assert each.prompt == UniformLength(low=100, high=900)
    assert each.output == FixedLength(tokens=128)


def test_the_longest_prompt_makes_prompts_vary():
    """The context follows from the longest request and not from the mean."""
    asked = traffic(max_input_tokens=8000)
    assert asked.prompt == LognormalLength(mean_tokens=512, variation=1.0, longest=8000)
    assert asked.context_tokens > 8000


def test_a_trace_states_lengths_and_times(tmp_path, capsys):
    """Rows that cannot be used are told with their line; `--rate` runs the trace faster."""
    file = tmp_path / "trace.csv"
    file.write_text(
        "send_s,prompt_tokens,output_tokens\n0,100,10\n1,x,10\n2,300,30\n4,200,20\n",
        encoding="utf-8",
    )
    asked = traffic(trace=file, input_tokens=None, output_tokens=None)
    assert asked.input_tokens == 200
    assert asked.rate == pytest.approx(0.5)
    told = capsys.readouterr().err
    assert "trace.csv: 1 of 4 rows left out" in told
    assert "line 3" in told
    faster = traffic(trace=file, rate=5.0, input_tokens=None, output_tokens=None)
    assert faster.rate == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"rate": 1.0, "concurrency": 1}, "--rate"),
        ({"concurrency": None}, "--concurrency"),
        ({"input_tokens": None}, "--input-tokens"),
        ({"lengths": "uniform:100-200"}, "--input-tokens"),
        ({"trace": Path("x.csv")}, "--input-tokens"),
        ({"trace": Path("x.csv"), "concurrency": 1}, "--concurrency"),
        ({**OF_TRACE, "arrival": "poisson"}, "--arrival"),
        ({"concurrency": 4, "arrival": "poisson"}, "--arrival"),
        ({**OF_TRACE, "prefix_set_tokens": 1e6}, "--prefix-set-tokens"),
        ({**OF_TRACE, "route_by_prefix": True}, "--route-by-prefix"),
        ({**OF_TRACE, "turns": 3}, "--turns"),
        ({**OF_TRACE, "turn_interval_s": 9.0}, "--turn-interval-s"),
    ],
)
def test_contradictions_name_their_option(options, named):
    """What is missing, given twice, or at odds with another option is refused."""
    with pytest.raises(typer.BadParameter) as error:
        traffic(**options)
    assert named in error.value.format_message()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"max_input_tokens": 100}, "max_input_tokens"),
        ({"max_input_tokens": 1000, "lengths": "uniform"}, "max_input_tokens"),
        ({"rate": 0.0}, "rate"),
        ({"rate": -1.0}, "rate"),
        ({"rate": float("inf")}, "rate"),
        ({"rate": float("nan")}, "rate"),
        ({"rate": 1.0, "arrival": "monthly"}, "arrival"),
        ({"rate": 1.0, "arrival": "gamma:-1"}, "arrival"),
        ({"lengths": "short"}, "lengths"),
        ({"lengths": "uniform:5-2"}, "lengths"),
        ({"lengths": "lognormal:0"}, "lengths"),
        ({"prefix_hits": 1.5}, "prefix_hits"),
        ({"prefix_hits": -0.1}, "prefix_hits"),
    ],
)
def test_values_out_of_range_name_their_field(options, field):
    """Rates, processes, laws and shares are checked when the traffic is made."""
    with pytest.raises(InvalidInput) as error:
        traffic(**options)
    assert error.value.field == field


def test_requests_longer_than_the_models_context_are_told_row_by_row(tmp_path, capsys):
    """Llama 3.1 reads 131,072 tokens: the longer request is left out, the others are replayed."""
    file = tmp_path / "trace.csv"
    rows = "0,100,10\n1,131072,10\n2,300,30\n"
    file.write_text("send_s,prompt_tokens,output_tokens\n" + rows, encoding="utf-8")
    lengths = LengthOptions(input_tokens=None, output_tokens=None)
    model = "meta-llama/Llama-3.1-8B-Instruct"
    asked = traffic_of(lengths, LoadOptions(trace=file), model)
    assert len(asked.arrivals) == 2
    assert "line 3: 131082 tokens; at most 131072 fit" in capsys.readouterr().err


def test_a_folder_is_no_trace(tmp_path):
    """The message says what the path is instead of denying that it exists."""
    with pytest.raises(InvalidInput, match="is a folder"):
        traffic(trace=tmp_path, input_tokens=None, output_tokens=None)


def test_a_trace_without_duration_has_no_rate_to_change(tmp_path):
    """The error of `--trace` with `--rate` names the trace and what is wrong with it."""
    file = tmp_path / "trace.csv"
    file.write_text("send_s,prompt_tokens,output_tokens\n0,9,9\n0,9,9\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"^trace: .*same instant"):
        traffic(trace=file, rate=5.0, input_tokens=None, output_tokens=None)


@pytest.mark.parametrize("content", ["", "send_s,prompt_tokens,output_tokens\n", "a,b\n1,2\n"])
def test_traces_without_requests_are_refused(tmp_path, content):
    """An empty file, a header alone and an unknown format are no traffic; nor is a missing file."""
    file = tmp_path / "trace.csv"
    file.write_text(content, encoding="utf-8")
    for path in (file, tmp_path / "none.csv", tmp_path):
        with pytest.raises(InvalidInput) as error:
            traffic(trace=path, input_tokens=None, output_tokens=None)
        assert error.value.field == "trace"
