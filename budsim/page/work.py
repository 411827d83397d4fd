"""What worker processes do for the page; they import these functions by name.

Everything that takes more than a few milliseconds is done here, away from the event loop: reading
uploads, predicting, and turning answers into HTML.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from budsim.commons.errors import InvalidInput
from budsim.hardware_ops.cluster import Cluster
from budsim.hardware_ops.cluster_file import read_cluster_text
from budsim.hardware_ops.price_file import read_price_file
from budsim.page.fields import Measured, Upload
from budsim.page.html import rendered
from budsim.performance.measured.traces import read_trace
from budsim.performance.predictor import Predictor
from budsim.simulator.planning.plans import Outcome, Plan
from budsim.simulator.planning.question import Question

if TYPE_CHECKING:
    import pandas as pd

    from budsim.hardware_ops.price_file import PriceFile
    from budsim.performance.traffic import Traffic

# What decoding a file that is no text leaves behind.
NO_TEXT = re.compile("[\x00-\x08\ufffd]")
SUFFIXES = frozenset({".csv", ".json", ".jsonl"})
PRICE_SUFFIXES = frozenset({".csv", ".json", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerDetail:
    """An answer that is to be shown, under the name it is remembered by."""

    outcome: Outcome
    name: str
    model: str
    width: int
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDetail:
    """A plan of an answer, with what is to be done to it; ``number`` counts from 1."""

    outcome: Outcome
    number: int
    width: int = 0
    changes: tuple[tuple[str, str], ...] = ()
    form: str = ""

    @property
    def plan(self) -> Plan:
        """The plan.

        Raises
        ------
        InvalidInput
            The answer has fewer plans.
        """
        if self.number > len(self.outcome.plans):
            most = len(self.outcome.plans)
            raise InvalidInput("number", f"{self.number} is no plan", f"1 to {most}")
        return self.outcome.plans[self.number - 1]


def read_clusters(upload: Upload, _predictor: Predictor, _detail: object) -> tuple[Cluster, ...]:
    """Return the clusters of an uploaded inventory; a problem names the place in the file.

    Raises
    ------
    InvalidInput
        It is no inventory.
    """
    try:
        return read_cluster_text(_checked(upload), upload.name)
    except InvalidInput as error:
        # Places such as `clusters[0].nodes[0].devices[0].device` are no fields of the form.
        where = "" if error.field in {"upload", "cluster"} else f"{error.field}: "
        raise InvalidInput("upload", f"{where}{error.problem}", error.expected) from error


def read_uploaded_trace(
    upload: Upload, _predictor: Predictor, longest_tokens: int
) -> tuple[Traffic, str]:
    """Return the requests of an uploaded trace, and which rows are left out, in words.

    Requests longer than the context are left out, as are rows that are none.

    Raises
    ------
    InvalidInput
        The file is no trace, or has no usable row.
    """
    with TemporaryDirectory(prefix="budsim-") as folder:
        path = _stored(upload, Path(folder), "trace")
        found = read_trace(path, longest_tokens)
    if not found.left_out:
        return found.traffic(), ""
    told = f"{found.left_out:,} of {found.rows:,} rows of the trace are left out"
    return found.traffic(), f"{told}: {found.problems[0]}" if found.problems else told


def read_uploaded_prices(upload: Upload, _predictor: Predictor, _detail: object) -> PriceFile:
    """Return the prices of an uploaded file; errors as `read_price_file`."""
    with TemporaryDirectory(prefix="budsim-") as folder:
        return read_price_file(_stored(upload, Path(folder), "prices", PRICE_SUFFIXES))


def answer_page(question: Question, _predictor: Predictor, detail: AnswerDetail) -> str:
    """Return an answer as HTML: the front, the plans, what was rejected."""
    from budsim.page.views import answer_view

    view = answer_view(question, detail.outcome, detail.model, detail.width)
    return rendered("answer.html", view=view, name=detail.name, note=detail.note)


def changed_page(question: Question, predictor: Predictor, detail: PlanDetail) -> str:
    """Return as HTML what changed knobs do to a plan; errors as `change_plan`."""
    from budsim.page.sliders import changed_view
    from budsim.simulator.planning.whatif import change_plan

    change = change_plan(question, detail.plan, predictor, dict(detail.changes))
    return rendered("changed.html", view=changed_view(question, change))


def offer_page(question: Question, predictor: Predictor, detail: PlanDetail) -> str:
    """Return as HTML which quantized checkpoint would do for much less; empty where none would."""
    from budsim.page.views import offer_view
    from budsim.simulator.planning.checkpoint_offers import cheaper_checkpoint

    offer = cheaper_checkpoint(question, detail.outcome, predictor)
    return rendered("offer.html", view=offer_view(offer)) if offer else ""


def load_page(question: Question, predictor: Predictor, detail: PlanDetail) -> str:
    """Return as HTML how the latency of a plan grows with the load, up to its knee and beyond."""
    from budsim.page.load_chart import load_view
    from budsim.simulator.planning.replay_curves import replay_plan

    replayed = replay_plan(question, detail.plan, predictor)
    view = load_view(question, replayed.curve, detail.width)
    return rendered("load.html", view=view, number=detail.number)


def plan_file(question: Question, _predictor: Predictor, detail: PlanDetail) -> str:
    """Return the text of a file that starts a plan; errors as `rendering.render`."""
    from budsim.api.documents import outcome_document
    from budsim.simulator.rendering import render

    chosen = Outcome(plans=(detail.plan,), rejections=(), evaluations=0)
    return render(json.dumps(outcome_document(question, chosen)), detail.form)


def measured_page(measured: Measured, predictor: Predictor, _detail: object) -> str:
    """Return as HTML how uploaded benchmarks compare with what is predicted for them.

    Raises
    ------
    InvalidInput
        A file is no benchmark, or none of them has a row that can be compared.
    """
    from budsim.page.measured_view import measured_view
    from budsim.performance.training.score import judge

    table, problems = _rows(measured)
    judged, left_out = judge([(table, 1.0)], predictor)
    reasons = [*problems, *left_out]
    if judged.empty:
        told = reasons[0] if reasons else "hold no row"
        raise InvalidInput.read("files", told, "a benchmark with measured latency or throughput")
    return rendered("measured.html", view=measured_view(judged, reasons, measured.drawn_width))


def _rows(measured: Measured) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of all files, and why benchmarks became no row."""
    import pandas as pd

    from budsim.performance.measured.importers import Setup, import_results
    from budsim.performance.measured.tables import read_tables

    with TemporaryDirectory(prefix="budsim-") as folder:
        paths = [_stored(upload, Path(folder)) for upload in measured.files]
        tables = [path for path in paths if path.suffix == ".csv"]
        results = [path for path in paths if path.suffix != ".csv"]
        setup = Setup(
            device=measured.device,
            model=measured.model,
            engine=measured.engine,
            tp=measured.tp,
            pp=measured.pp,
        )
        imported = import_results(results, setup)
        parts = [imported.rows] if len(imported.rows) else []
        parts += [read_tables(tables)] if tables else []
    if not parts:
        told = imported.problems[0] if imported.problems else "hold no benchmark"
        expected = "results of vllm bench serve, GuideLLM, InferenceX, CSV"
        raise InvalidInput.read("files", told, expected)
    return pd.concat(parts, ignore_index=True).fillna(""), list(imported.problems)


def _stored(
    upload: Upload, folder: Path, field: str = "files", suffixes: frozenset[str] = SUFFIXES
) -> Path:
    """Write an upload into a folder under a name that means nothing to the file system."""
    suffix = Path(upload.name).suffix.lower()
    if suffix not in suffixes:
        problem = f"{upload.name!r} has another ending"
        raise InvalidInput(field, problem, f"a name that ends in {_listed(sorted(suffixes))}")
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", Path(upload.name).stem)[:60]
    path = folder / f"{stem or 'upload'}{suffix}"
    if path.exists():
        raise InvalidInput("files", f"{upload.name!r} was given twice", "files of distinct names")
    path.write_text(_checked(upload, field), encoding="utf-8")
    return path


def _checked(upload: Upload, field: str = "upload") -> str:
    """Return the text of an upload; refuse one that is no text."""
    if not upload.text.strip():
        raise InvalidInput(field, f"{upload.name!r} is empty", "a text file")
    if NO_TEXT.search(upload.text):
        raise InvalidInput(field, f"{upload.name!r} is no text file", "JSON, YAML or CSV")
    return upload.text


def _listed(words: Sequence[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"
