"""How answers show themselves."""

from budsim.api.tabular import Tabular


class Wares(Tabular):
    """Two rows, one with a hostile name."""

    def rows(self):
        """Return a figure with a range, and text."""
        figures = {"price_usd": 1234.5, "price_usd_low90": 1000.0, "price_usd_high90": 2000.0}
        return [{"name": "<script>alert(1)</script>"} | figures, {"name": "b"} | figures]

    def to_dict(self):
        """Return a document with a letter that ASCII lacks."""
        return {"name": "Zürich"}

    def summary(self):
        """Return a sentence with markup."""
        return "2 wares & more"


def test_notebooks_show_a_figure_with_its_range_in_one_cell():
    """Value and range share a cell, and a note says what the range is."""
    page = Wares()._repr_html_()
    assert "<td>1.23e+03 (1e+03 to 2e+03)</td>" in page
    assert "price_usd_low90" not in page
    assert "not a percentile of requests" in page


def test_text_in_notebooks_is_escaped():
    """Names come from files that others wrote."""
    page = Wares()._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "2 wares &amp; more" in page


def test_json_keeps_every_letter():
    """`to_json` is readable text, on one line where asked."""
    assert Wares().to_json(indent=None) == '{"name": "Zürich"}'


def test_text_has_the_summary_first():
    """`print(answer)` shows the summary and one line for each row."""
    lines = str(Wares()).splitlines()
    assert lines[0] == "2 wares & more"
    assert len(lines) == 3
