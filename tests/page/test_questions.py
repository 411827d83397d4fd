"""From the form's fields to a question."""

import pytest
from pydantic import ValidationError

from budsim.commons.errors import InvalidInput, NotFound
from budsim.hardware_ops.device import PriceBasis
from budsim.hardware_ops.pricing import Pricing
from budsim.model_ops.media import Media
from budsim.page.fields import Asked
from budsim.page.questions import posed_question, question_of, targets_of, traffic_of
from budsim.performance.prefixes import PrefixSet, Sessions
from budsim.simulator.cluster_sources import FixedInventory, PricedInventory
from budsim.simulator.context import ServiceOptions
from budsim.simulator.planning.question import Disaggregation
from tests.simulator.situations import MODEL, make_cluster

FORM = {"model": "m", "concurrency": "64", "input_tokens": "2048", "output_tokens": "512"}


def test_targets_are_read_in_the_units_people_type():
    """Milliseconds become seconds, for means and percentiles alike."""
    asked = Asked(
        **FORM, ttft_ms="2000", ttft_p99_ms="500", e2e_p95_s="30", tokens_per_s_per_user="20"
    )
    targets = targets_of(asked)
    assert (targets.ttft_s, targets.tokens_per_s_per_user) == (2.0, 20.0)
    limits = {each.name: each.limit_s for each in targets.percentiles}
    assert limits == {"ttft_p99_s": 0.5, "e2e_p95_s": 30.0}


def test_blank_and_zero_set_no_target():
    """A field left blank and a 0 ask for nothing."""
    assert not targets_of(Asked(**FORM, ttft_ms=" ", e2e_s="0"))


def test_rate_is_missing_is_said_by_field():
    """Traffic at a rate without a rate names the field."""
    with pytest.raises(InvalidInput) as caught:
        traffic_of(Asked(**FORM, load="rate"))
    assert caught.value.field == "rate"


def test_lengths_contradicting_the_mean_are_refused():
    """As in the terminal and over HTTP."""
    with pytest.raises(InvalidInput, match="lengths: 'uniform:1-3' has a mean of 2 tokens, not"):
        traffic_of(Asked(**FORM, lengths="uniform:1-3"))


def test_traffic_at_a_rate_with_varied_lengths():
    """Rate, arrivals, law of lengths and prefix hits reach the traffic."""
    asked = Asked(
        **FORM, load="rate", rate="3.5", arrival="gamma:2", lengths="lognormal", prefix_hits="0.5"
    )
    traffic = traffic_of(asked)
    assert (traffic.rate, traffic.arrivals.variation, traffic.prefix_hit_share) == (3.5, 2.0, 0.5)
    assert traffic.prompt.most > traffic.prompt.mean


def test_shared_prefixes_conversations_and_items_reach_the_traffic():
    """The page takes every option of traffic that the terminal takes."""
    shared = traffic_of(
        Asked(**FORM, prefix_hits="0.5", prefix_set_tokens="1e6", route_by_prefix="true")
    )
    assert shared.prefix == PrefixSet(share=0.5, tokens=1e6, by_prefix=True)
    talks = traffic_of(Asked(**FORM, turns="4", turn_interval_s="9", max_input_tokens="9000"))
    assert talks.prefix == Sessions(turns=4, interval_s=9.0)
    assert talks.prompt.most == 9000
    seen = traffic_of(Asked(**FORM, images_per_request="2", image_size="640x480"))
    assert seen.media == Media(images=2, width=640, height=480)
    with pytest.raises(InvalidInput, match="image_size: is missing"):
        traffic_of(Asked(**FORM, images_per_request="2"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"turns": "0"},
        {"video_frames": "many"},
        {"kv_store_gib": "-1"},
        {"concurrency": "0"},
        {"input_tokens": "many"},
        {"ttft_ms": "-1"},
        {"ttft_ms": "nan"},
        {"prefix_hits": "1.5"},
        {"source": "elsewhere"},
        {"model": ""},
        {"nodes": "1000000"},
        {"unknown": "1"},
    ],
)
def test_fields_out_of_range_are_refused(wrong):
    """A number out of range, an unknown choice and an unknown field are refused."""
    with pytest.raises(ValidationError):
        Asked(**(FORM | wrong))


@pytest.mark.parametrize(("field", "allowed"), [("", "off"), ("also", "also"), ("only", "only")])
async def test_pools_are_asked_for(field, allowed):
    """Workers for prefill and decode apart are off, shown where better, or all that is tried."""
    asked = Asked(**FORM, disaggregated=field).model_copy(update={"model": MODEL})
    question = await question_of(asked, OwningService())
    assert question.disaggregation == Disaggregation(allowed)


async def test_unknown_kind_of_pools_is_refused():
    """What is no kind of pools is refused by its field."""
    asked = Asked(**FORM, disaggregated="maybe").model_copy(update={"model": MODEL})
    with pytest.raises(InvalidInput, match="'maybe' is not known"):
        await question_of(asked, OwningService())


@pytest.mark.parametrize(("width", "drawn"), [(1, 280), (640, 640), (9999, 1200)])
def test_drawings_are_legible_whatever_width_is_told(width, drawn):
    """The width of drawings is kept within bounds."""
    assert Asked(**FORM, width=width).drawn_width == drawn


class OwningService:
    """A service with one node of eight H100 whose devices are priced to own."""

    inventory = PricedInventory(
        FixedInventory((make_cluster((("H100-SXM", 8),)),)), Pricing(basis=PriceBasis.OWN)
    )
    options = ServiceOptions()


@pytest.mark.parametrize(
    ("form", "basis"), [({}, "own"), ({"basis": "own"}, "own"), ({"basis": "rent"}, "rent")]
)
@pytest.mark.parametrize("source", ["inventory", "devices"])
async def test_prices_follow_the_service_unless_the_form_says_otherwise(source, form, basis):
    """Blank means the service's basis, also for chosen devices; the form can ask for the other."""
    asked = Asked(**(FORM | form), source=source, device="H100-SXM").model_copy(
        update={"model": MODEL}
    )
    question = await question_of(asked, OwningService())
    (pool,) = (pool for _, pool in question.clusters[0].pools())
    expected = Pricing(basis=PriceBasis(basis)).priced(pool.device)
    assert pool.device.price_usd_per_h == expected.price_usd_per_h
    other = Pricing(basis=PriceBasis("rent" if basis == "own" else "own")).priced(pool.device)
    assert pool.device.price_usd_per_h != other.price_usd_per_h


async def test_unknown_basis_is_refused():
    """A basis of prices that is none is refused."""
    asked = Asked(**FORM, basis="stolen").model_copy(update={"model": MODEL})
    with pytest.raises((InvalidInput, NotFound)):
        await question_of(asked, OwningService())


async def test_a_provider_of_owned_devices_is_refused():
    """Nobody would read its rents."""
    asked = Asked(**FORM, basis="own", provider="AWS").model_copy(update={"model": MODEL})
    with pytest.raises(InvalidInput, match="provider: changes nothing"):
        await question_of(asked, OwningService())


async def test_power_and_the_grid_follow_the_form():
    """Dearer power makes an owned hour dearer; the grid's intensity reaches the energy."""
    form = FORM | {"model": MODEL, "usd_per_kwh": "1", "g_co2_per_kwh": "30", "pue": "1.1"}
    question = await question_of(Asked(**form), OwningService())
    (pool,) = (pool for _, pool in question.clusters[0].pools())
    assert "1 USD/kWh" in pool.device.price_origin.source
    assert (question.power_site.pue, question.power_site.g_co2_per_kwh) == (1.1, 30.0)


async def test_adapters_and_guesses_reach_the_question():
    """What the terminal asks by options, the page asks by fields."""
    form = FORM | {"model": MODEL, "max_loras": "2", "speculative": "ngram", "draft_tokens": "4"}
    question = await question_of(Asked(**form), OwningService())
    assert (question.max_loras, question.max_lora_rank) == (2, 16)
    assert [each.draft_tokens for each in question.speculations] == [4]


class ReadingService(OwningService):
    """A service whose workers compute at once."""

    @property
    def workers(self):
        """The service itself."""
        return self

    @staticmethod
    async def compute(work, topic, detail):
        """Return what a worker would."""
        return work(topic, None, detail)


async def test_an_uploaded_trace_is_the_traffic():
    """Three requests in two seconds, of the lengths that were recorded."""
    rows = "send_s,prompt_tokens,output_tokens\n0,100,10\n1,200,20\n2,300,30\n"
    form = {"model": MODEL, "load": "trace", "trace": {"name": "day.csv", "text": rows}}
    question = await question_of(Asked(**form), ReadingService())
    assert question.traffic.is_open
    assert question.traffic.input_tokens == 200


async def test_requests_longer_than_the_context_are_counted():
    """One row of three needs more than the 131,072 tokens of the model: it is told, and why."""
    rows = "send_s,prompt_tokens,output_tokens\n0,100,10\n1,200000,20\n2,300,30\n"
    form = {"model": MODEL, "load": "trace", "trace": {"name": "day.csv", "text": rows}}
    posed = await posed_question(Asked(**form), ReadingService())
    assert posed.note.startswith("1 of 3 rows of the trace are left out: ")
    assert "200020 tokens; at most 131072 fit" in posed.note
    assert len(posed.question.traffic.arrivals) == 2


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "clusters: [{name: a, nodes: [{name: b, devices: [{device: 7}]}]}]",
            "clusters[0].nodes[0].devices[0]",
        ),
        ("a: 1", "a: is not a field"),
        ("[", "mine.yaml is not YAML"),
    ],
)
async def test_a_wrong_inventory_is_marked_at_its_upload(text: str, told: str):
    """The form has a field `device` of its own: a place in the file is not one of its fields."""
    form = FORM | {"model": MODEL, "source": "upload"}
    with pytest.raises(InvalidInput) as refused:
        await question_of(
            Asked(**form, upload={"name": "mine.yaml", "text": text}), ReadingService()
        )
    assert refused.value.field == "upload"
    assert refused.value.problem.startswith(told)


async def test_uploaded_prices_win_over_those_of_the_service():
    """Also their assumptions about owned devices."""
    text = "{prices: [{device: H100-SXM, purchase_usd: 1000}], ownership: {years: 1}}"
    form = FORM | {"model": MODEL, "prices": {"name": "mine.yaml", "text": text}}
    question = await question_of(Asked(**form), ReadingService())
    (pool,) = (pool for _, pool in question.clusters[0].pools())
    assert pool.device.price_usd == 1000
    assert "over 1 years" in pool.device.price_origin.source


async def test_a_price_file_of_unknown_devices_is_refused():
    """The message names file and row, and the form marks its field."""
    upload = {"name": "mine.csv", "text": "device,usd_per_h\nH1000,2\n"}
    with pytest.raises(InvalidInput, match=r"mine\.csv row 1") as refused:
        await question_of(Asked(**FORM | {"model": MODEL, "prices": upload}), ReadingService())
    assert refused.value.field == "prices"


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"load": "trace"}, "trace"),
        ({"load": "trace", "trace": {"name": "day.exe", "text": "x"}}, "trace"),
        ({"load": "trace", "trace": {"name": "day.csv", "text": " "}}, "trace"),
        ({"load": "trace", "trace": {"name": "day.csv", "text": "no,trace\n1,2\n"}}, "trace"),
        ({"concurrency": "4", "output_tokens": "5"}, "input_tokens"),
    ],
)
async def test_a_missing_trace_or_length_is_named(form, field):
    """Also a file that is none."""
    with pytest.raises(InvalidInput) as caught:
        await question_of(Asked(model=MODEL, **form), ReadingService())
    assert caught.value.field == field
