"""The page's own files: who gets them, and with what protection."""

import pytest

from budsim.commons.config import AppSettings
from budsim.page import shell

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


def test_browsers_get_the_page_and_programs_the_description(client):
    """``/`` answers a browser with HTML and everything else with the service's name and version."""
    assert "<!doctype html>" in client.get("/", headers=BROWSER).text
    assert client.get("/").json()["object"] == "info"


@pytest.mark.parametrize("path", [path for path in shell.FILES if path != "/"])
def test_files_need_no_token_and_allow_no_foreign_script(make_client, path):
    """Style and script are served without the token, under a policy that forbids all others."""
    client = make_client(app=AppSettings(_env_file=None, app_api_token="secret"))
    answer = client.get(path)
    assert answer.status_code == 200
    assert "default-src 'none'; script-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("path", ["start", "runs"])
def test_data_needs_the_token(make_client, path):
    """Everything below ``/page`` that holds data is refused without the token."""
    client = make_client(app=AppSettings(_env_file=None, app_api_token="secret"))
    assert client.get(f"/page/{path}").status_code == 401
    assert client.get(f"/page/{path}", headers={"dapr-api-token": "secret"}).status_code == 200


def test_missing_package_is_named_in_one_line(client, monkeypatch):
    """Without the extra, ``/`` says in one line how to get it."""
    monkeypatch.setattr(shell, "find_spec", lambda _name: None)
    answer = client.get("/", headers=BROWSER)
    assert answer.status_code == 501
    assert answer.text.count("\n") == 1
    assert "pip install 'budsim[ui]'" in answer.text


def test_page_names_no_other_address():
    """The page loads nothing from elsewhere, so it works without a network."""
    for name, _ in shell.FILES.values():
        assert "://" not in (shell.ASSETS / name).read_text()
