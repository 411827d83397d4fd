"""The HTML file of an answer."""

from xml.etree import ElementTree as ET

from budsim.cli import run


def test_the_report_is_one_file_with_plots(simulate, tmp_path, capsys):
    """The table and four plots stand in the page; nothing is loaded from elsewhere.

    A cluster file is written by others; its names are text and not markup.
    """
    inventory, file = tmp_path / "hostile.yaml", tmp_path / "plan.html"
    inventory.write_text(
        "clusters: [{name: '<img src=x onerror=alert(1)>', "
        "nodes: [{name: n, devices: [{device: L4, count: 1}]}]}]"
    )
    assert run([*simulate, "--cluster", str(inventory), "--report", str(file)]) == 0
    page = file.read_text(encoding="utf-8")
    assert page.count("<svg") == 4
    assert "meta-llama/Llama-3.1-8B-Instruct" in page
    assert "<script" not in page
    assert "<img" not in page
    assert 'src="http' not in page
    first = page[page.index("<svg") : page.index("</svg>") + len("</svg>")]
    assert ET.fromstring(first) is not None


def test_a_report_that_cannot_be_written_names_its_option(simulate, tmp_path, capsys):
    """The folder does not exist: exit code 2 and one line about --report."""
    assert run([*simulate, "--report", str(tmp_path / "none" / "plan.html")]) == 2
    assert "--report" in capsys.readouterr().err
