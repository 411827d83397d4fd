"""Log lines are JSON with the context's ids; figures of two applications are apart."""

import io
import json
import sys

import pytest
import structlog

from budsim.commons.telemetry import configure_logging, new_metrics


def test_a_log_line_is_one_json_object(monkeypatch: pytest.MonkeyPatch):
    """With level, time and the ids bound; lines below the level are left out."""
    written = io.StringIO()
    monkeypatch.setattr(sys, "stderr", written)
    configure_logging("INFO")
    with structlog.contextvars.bound_contextvars(workflow_id="w"):
        structlog.get_logger().debug("too detailed")
        structlog.get_logger().info("run ended", status="COMPLETED")
    (line,) = written.getvalue().splitlines()
    found = json.loads(line)
    assert found.pop("timestamp").endswith("Z")
    assert found == {
        "event": "run ended",
        "status": "COMPLETED",
        "workflow_id": "w",
        "level": "info",
    }


def test_figures_are_of_one_application():
    """Two in one process do not add up."""
    first, second = new_metrics(), new_metrics()
    first.plans.labels("learned").inc()
    name = "budsim_plan_groups_total"
    assert first.registry.get_sample_value(name, {"basis": "learned"}) == 1.0
    assert second.registry.get_sample_value(name, {"basis": "learned"}) is None
