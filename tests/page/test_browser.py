"""The page in a headless Chromium: what people see, type and press."""

import re
import sys
import time
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import OpenPage, Service, ask

# The first test of a process also waits for the service to load its regressors.
pytestmark = pytest.mark.timeout(300)

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(2)</script>'


def test_page_without_token_shows_a_form_and_no_data(open_page: OpenPage):
    """Without the token a person sees a form that asks for it, and nothing of the service."""
    page = open_page(sign_in=False)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    assert page.locator("#views").inner_html() == ""
    assert "demo" not in page.content()


def test_wrong_token_is_said_to_be_wrong(open_page: OpenPage):
    """A wrong token leads back to the form, with a message."""
    page = open_page(sign_in=False)
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").first).to_have_text("This token is wrong.")


def test_token_is_in_no_address_and_in_no_log(asked: Page, service: Service):
    """The token travels in a header: neither the address nor the service's log holds it."""
    from tests.page.conftest import TOKEN

    assert TOKEN not in asked.url
    assert TOKEN not in service.log.read_text()


def test_question_is_answered_with_front_plans_and_commands(asked: Page):
    """An answer has a drawing, plans as cards with reasons and memory, and a command to copy."""
    expect(asked.locator("svg.chart a")).not_to_have_count(0)
    plan = asked.locator("#plan-1")
    expect(plan.get_by_role("heading", name="Why this")).to_be_visible()
    expect(plan.get_by_role("heading", name="What limits it")).to_be_visible()
    expect(plan.locator("pre").first).to_contain_text("--tensor-parallel-size")
    expect(plan.get_by_role("img", name=re.compile("memory of a device")).first).to_be_visible()


def test_page_is_painted_within_a_second(open_page: OpenPage):
    """The first paint takes less than a second on loopback; `-rP` shows it and the answer's time.

    The answer's time is not bounded here: it depends on what else the machine does.
    """
    page = open_page()
    paint = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
    paint_s = page.evaluate(paint) / 1000
    began_s = time.perf_counter()
    ask(page)
    sys.stdout.write(f"paint {paint_s:.2f} s, answer {time.perf_counter() - began_s:.2f} s")
    assert paint_s < 1.0


def test_mark_of_a_plan_opens_its_card(asked: Page):
    """The marks of the drawing are links: with the keyboard too they open the plan."""
    asked.locator("svg.chart a").nth(1).focus()
    asked.keyboard.press("Enter")
    expect(asked.locator("#plan-2")).to_have_attribute("open", "")


def test_plan_is_downloaded_as_compose_file(asked: Page):
    """The buttons of a plan save the file that starts it."""
    plan = asked.locator("#plan-1")
    plan.get_by_label("What starts plan 1, for").select_option("compose")
    with asked.expect_download() as saved:
        plan.get_by_role("button", name="Download").click()
    assert saved.value.suggested_filename == "compose.yaml"
    assert "services:" in Path(saved.value.path()).read_text()


def test_load_is_drawn_against_latency_with_the_knee(asked: Page):
    """Opened, the curve of a plan shows p50, p99, the knee and the load that was asked for."""
    asked.locator("#plan-1").get_by_text("Load against latency").click()
    drawing = asked.locator("#plan-1 .load svg.chart")
    drawing.wait_for()
    for mark in ("polyline.p50", "polyline.p99", "line.at-knee", "line.at-asked"):
        expect(drawing.locator(mark)).to_have_count(1)


def test_slider_changes_figures(asked: Page):
    """A slider moved with the keyboard shows the figures before and after."""
    plan = asked.locator("#plan-2")
    plan.locator(":scope > summary").click()
    plan.get_by_text("What if", exact=True).click()
    plan.get_by_label("requests in flight").focus()
    asked.keyboard.press("PageUp")
    expect(plan.get_by_role("columnheader", name="changed")).to_be_visible()
    expect(plan.locator(".now").first).not_to_have_text("64")


def test_wrong_field_is_marked_and_focused(open_page: OpenPage):
    """A field the service refuses is marked, gets the focus, and the message says what is right."""
    page = open_page()
    page.get_by_label("TTFT, mean, ms").fill("-5")
    page.get_by_role("button", name=re.compile("^Ask$")).click()
    field = page.locator("[name=ttft_ms]")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_be_focused()
    message = "TTFT, mean, ms: Input should be greater than or equal to 0"
    expect(page.locator("#question .problem")).to_have_text(message)


def test_recorded_requests_are_planned_for(open_page: OpenPage, tmp_path: Path):
    """A trace takes the place of rate and lengths; the plan says what it takes from the grid."""
    file = tmp_path / "trace.csv"
    rows = "".join(f"{at / 4},{200 + at},20\n" for at in range(40))
    file.write_text(f"send_s,prompt_tokens,output_tokens\n{rows}")
    page = open_page()
    page.locator("#question [name=model]").fill("meta-llama/Llama-3.1-8B-Instruct")
    page.locator("[name=engine]").first.select_option("vllm")
    page.get_by_label("chosen here").check()
    page.locator("[name=nodes]").fill("1")
    page.get_by_label("as recorded").check()
    expect(page.locator("[name=input_tokens]")).to_be_hidden()
    page.locator("[name=trace]").set_input_files(file)
    page.get_by_text("Own prices, power, pools, host memory").click()
    page.get_by_label("Grid, g CO2/kWh").fill("30")
    ask(page)
    expect(page.locator("#answer")).to_contain_text("a trace of 40 requests")
    expect(page.locator("#plan-1")).to_contain_text("CO2 at 30 g/kWh")


def test_pools_have_a_router_and_sliders_of_workers(open_page: OpenPage):
    """A plan of pools shows what starts its router; another number of workers is predicted."""
    page = open_page()
    page.locator("#question [name=model]").fill("meta-llama/Llama-3.1-8B-Instruct")
    page.locator("[name=engine]").first.select_option("vllm")
    page.get_by_text("Own prices, power, pools, host memory").click()
    page.get_by_label("Workers for prefill and decode apart").select_option("only")
    ask(page)
    plan = page.locator("#plan-1")
    expect(plan.get_by_role("heading", name="Start the router before both pools")).to_be_visible()
    expect(plan.locator("pre").last).to_contain_text("vllm-router --vllm-pd-disaggregation")
    expect(plan.get_by_text("need ports and devices of their own")).to_be_visible()
    plan.get_by_text("Load against latency").click()
    plan.locator(".load svg.chart").wait_for()
    plan.get_by_text("What if").click()
    expect(plan.locator("[name=decode_workers]")).to_be_visible()


def test_uploaded_cluster_is_planned_on(open_page: OpenPage, tmp_path: Path):
    """A cluster file is read and planned on; names in it are shown as text, never as HTML."""
    name = HOSTILE.replace('"', "'")
    file = tmp_path / "lab.yaml"
    node = f'{{name: "{name}", devices: [{{device: H100-SXM, count: 8}}, {{device: "{name}"}}]}}'
    file.write_text(f'clusters: [{{name: "{name}", nodes: [{node}]}}]')
    page = open_page()
    page.get_by_label("of a file").check()
    page.locator("[name=upload]").set_input_files(file)
    ask(page)
    expect(page.locator("#plan-1")).to_contain_text(name)
    assert page.locator("#answer img, #answer script").count() == 0


def test_binary_file_is_refused_with_a_reason(open_page: OpenPage, tmp_path: Path):
    """A file that is no text is refused by name, and the page goes on."""
    file = tmp_path / "picture<b>.yaml"
    file.write_bytes(bytes(range(256)))
    page = open_page()
    page.get_by_label("of a file").check()
    page.locator("[name=upload]").set_input_files(file)
    page.get_by_role("button", name=re.compile("^Ask$")).click()
    expect(page.locator("#question .problem")).to_contain_text("'picture<b>.yaml' is no text file")


def test_huge_file_is_refused_before_it_is_sent(open_page: OpenPage, tmp_path: Path):
    """A file larger than the service takes is refused with both sizes."""
    file = tmp_path / "huge.yaml"
    file.write_text("x" * 1_500_000)
    page = open_page()
    page.get_by_label("of a file").check()
    page.locator("[name=upload]").set_input_files(file)
    page.get_by_role("button", name=re.compile("^Ask$")).click()
    expect(page.locator("#question .problem")).to_contain_text("1,500,000 bytes")


def test_two_people_get_their_own_answers(open_page: OpenPage):
    """Two people who ask at once see their own question's answer."""
    first, second = open_page(), open_page()
    second.locator("#question [name=model]").fill("meta-llama/Llama-3.1-8B-Instruct")
    for page in (first, second):
        page.get_by_role("button", name=re.compile("^Ask$")).click()
    for page, model in ((first, "Llama-3.1-70B"), (second, "Llama-3.1-8B")):
        expect(page.locator("#answer .asked")).to_contain_text(model)


def test_narrow_window_needs_no_sideways_scrolling(open_page: OpenPage):
    """At 360 pixels the whole answer fits the width; tables scroll by themselves."""
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    ask(page)
    plan = page.locator("#plan-1")
    plan.get_by_text("Load against latency").click()
    plan.locator(".load svg.chart").wait_for()
    plan.get_by_text("What if", exact=True).click()
    plan.get_by_label("prompt tokens").focus()
    page.keyboard.press("PageUp")
    plan.locator(".changed table").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_colours_follow_the_system_and_the_switch(open_page: OpenPage):
    """The page is dark where the system is, light where the switch says so, also after a reload."""
    page = open_page(color_scheme="dark")
    paper = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(paper)
    page.get_by_label("Colours").select_option("light")
    light = page.evaluate(paper)
    assert (dark, light) == ("rgb(21, 24, 28)", "rgb(255, 255, 255)")
    page.reload()
    page.get_by_role("heading", name="What should I deploy?").wait_for()
    assert page.evaluate(paper) == light


def test_benchmark_is_compared_with_predictions(open_page: OpenPage, tmp_path: Path):
    """An uploaded result is drawn as predicted against measured, with the errors."""
    file = tmp_path / "result.csv"
    header = (
        "source,device_type,device_name,n_devices,tp,engine,model_hf,input_tokens,output_tokens,"
        "concurrency,ttft_ms_mean,tpot_ms_mean,quality"
    )
    row = "mine,cuda,H100-SXM,1,1,vllm,meta-llama/Llama-3.1-8B-Instruct,1024,256,{},{},{},A"
    rows = [row.format(load, 40 + load, 8 + load / 8) for load in (1, 8, 32)]
    file.write_text("\n".join([header, *rows]))
    page = open_page()
    page.get_by_role("link", name="Benchmarks").click()
    page.locator("[name=files]").set_input_files(file)
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#comparison svg.chart circle")).not_to_have_count(0)
    expect(page.locator("#comparison")).to_contain_text("3 rows compared")


def test_runs_of_the_service_are_listed_with_their_plans(open_page: OpenPage, service: Service):
    """A run started over HTTP appears with its state; opened, it shows its plans."""
    from tests.page.conftest import TOKEN

    page = open_page()
    body = {
        "pretrained_model_uri": "meta-llama/Llama-3.1-8B-Instruct",
        "is_proprietary_model": False,
        "input_tokens": 512,
        "output_tokens": 128,
        "concurrency": 8,
        "target_ttft": 2000,
        "target_throughput_per_user": 0,
        "target_e2e_latency": 0,
    }
    headers = {"dapr-api-token": TOKEN}
    page.request.post(f"{service.url}/simulator/run", data=body, headers=headers)
    page.get_by_role("link", name="Runs").click()
    row = page.locator("#run-list tr", has_text="Llama-3.1-8B")
    expect(row.first).to_contain_text("completed")
    row.first.get_by_role("button").click()
    expect(page.locator("#run-detail tbody tr")).not_to_have_count(0)


def test_whole_question_can_be_asked_with_the_keyboard(open_page: OpenPage):
    """From the model's field, Enter sends the form; the answer gets the focus."""
    page = open_page()
    page.locator("#question [name=model]").focus()
    page.keyboard.press("Enter")
    page.locator("#plan-1").wait_for()
    expect(page.locator("#answer")).to_be_focused()
