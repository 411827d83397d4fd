"""What the page asks for, over HTTP: answers, sliders, files, runs, and what is refused."""

import json

import pytest

from budsim.simulator.cluster_sources import FixedInventory
from tests.simulator.situations import make_cluster

FORM = {
    "model": "meta-llama/Llama-3.1-8B-Instruct",
    "concurrency": "64",
    "input_tokens": "1024",
    "output_tokens": "256",
    "ttft_ms": "1500",
}
HOSTILE = '<img src=x onerror="alert(1)">'


def lines_of(answer):
    """Return the lines of a streamed answer."""
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_answer_is_streamed_with_progress_and_ends_with_html(client):
    """Shares never fall, the last line holds the plans, and its answer is remembered by name."""
    *progress, last = lines_of(client.post("/page/ask", json=FORM))
    shares = [line["share"] for line in progress]
    assert shares == sorted(shares)
    assert 'id="plan-1"' in last["html"]
    assert "data-answer=" in last["html"]
    assert "Frobnicator-9000" in last["html"]


def test_names_of_the_inventory_are_escaped(make_client):
    """HTML in the name of a cluster is shown as text."""
    clusters = tuple(make_cluster((("H100-SXM", 8),), cluster_id=f"{HOSTILE}{n}") for n in range(2))
    client = make_client(inventory=FixedInventory(clusters))
    html = lines_of(client.post("/page/ask", json=FORM))[-1]["html"]
    assert HOSTILE not in html
    assert HOSTILE not in client.get("/page/start").text
    assert "&lt;img src=x" in html


def test_unknown_model_is_refused_with_its_name(client):
    """A model nobody knows is a 404 that names the field."""
    answer = client.post("/page/ask", json={**FORM, "model": HOSTILE})
    assert answer.status_code == 404
    assert answer.json()["param"] == "pretrained_model_uri"


def test_a_search_that_fails_ends_the_stream_with_the_reason(make_client):
    """What goes wrong after the first line is told in the last one, without details of ours."""

    class Failing:
        async def simulate(self, question, progress, known=None):
            raise RuntimeError("secret detail")

        async def check(self):
            return None

        async def warm(self):
            return None

        def close(self):
            return None

    last = lines_of(make_client(workers=Failing()).post("/page/ask", json=FORM))[-1]
    assert last == {"error": "internal error", "field": None}


@pytest.mark.parametrize(
    "upload",
    [
        {"name": "a.yaml", "text": "\x00\x01"},
        {"name": "a.json", "text": "[" * 100_000},
        {"name": "a.yaml", "text": "- " * 100_000},
        {"name": "a.yaml", "text": "&a [*a, *a]"},
        {"name": "a.yaml", "text": ""},
        {"name": "x" * 1000, "text": "clusters: []"},
        None,
    ],
)
def test_files_that_are_no_inventory_are_refused(client, upload):
    """Binary, deep, empty and missing files are refused as a field that is wrong."""
    answer = client.post("/page/ask", json={**FORM, "source": "upload", "upload": upload})
    assert answer.status_code == 422
    assert len(answer.json()["message"]) < 1000


def test_a_body_larger_than_the_service_takes_is_refused(client):
    """The page's bodies have the limit of all bodies."""
    upload = {"name": "a.yaml", "text": "x" * 2_000_000}
    answer = client.post("/page/ask", json={**FORM, "source": "upload", "upload": upload})
    assert answer.status_code == 413


def test_chosen_devices_make_a_cluster(client):
    """Devices of the catalog can be asked about without any inventory."""
    form = {**FORM, "source": "devices", "device": "h100", "devices_per_node": "8", "nodes": "2"}
    assert 'id="plan-1"' in lines_of(client.post("/page/ask", json=form))[-1]["html"]
    unknown = client.post("/page/ask", json={**form, "device": "no such device"})
    assert (unknown.status_code, unknown.json()["param"]) == (404, "device")


def test_files_that_start_a_plan(client):
    """A plan of an answer is written in the form that was chosen; unknown forms are refused."""
    chosen = {"asked": FORM, "number": 1, "form": "compose"}
    assert "services:" in client.post("/page/file", json=chosen).text
    wrong = client.post("/page/file", json={**chosen, "form": HOSTILE})
    assert wrong.status_code == 422


def test_a_plan_that_is_not_there_is_refused(client):
    """Numbers beyond the answer's plans are refused."""
    answer = client.post("/page/file", json={"asked": FORM, "number": 900, "form": "compose"})
    assert (answer.status_code, answer.json()["param"]) == (422, "number")


def test_runs_are_listed_newest_first_with_their_plans(client, body):
    """A finished run is shown with its state; its own page has its plans."""
    run = client.post("/simulator/run", json={**body, "debug": True}).json()
    listed = client.get("/page/runs").text
    assert "completed" in listed
    assert run["workflow_id"] in listed
    assert "2 x H100-SXM tp2" in client.get(f"/page/runs/{run['workflow_id']}").text


def test_unknown_run_is_not_found(client):
    """A run nobody knows is a 404, and an id that is none a 422."""
    unknown = "4f2647a2-a20e-581a-ab8e-eb8be653d4e3"
    assert client.get(f"/page/runs/{unknown}").status_code == 404
    assert client.get("/page/runs/none").status_code == 422


def test_answers_of_the_page_are_stored_nowhere(client):
    """No proxy and no browser keeps what the page shows."""
    assert client.get("/page/start").headers["cache-control"] == "no-store"


def test_the_documented_api_has_no_routes_of_the_page(client):
    """The page's routes change with the page and are no API."""
    assert not [path for path in client.get("/openapi.json").json()["paths"] if "page" in path]
