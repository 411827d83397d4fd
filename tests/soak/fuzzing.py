"""Thousands of requests that schemathesis makes from the OpenAPI document."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "missing_required_header",
)
"""Checks of each answer.

Not `negative_data_rejection`: the broker's DROP is a 200, an oversized list a 413.
"""

TOOLS_OWN = "Runtime Error"
"""Title of an exception in schemathesis itself, which is no fault of the service."""
SEED = 1
OUTER_LIMIT_S = 7200


@dataclass(frozen=True, slots=True, kw_only=True)
class Fuzzed:
    """Cases sent, problems of answers, one line each, and failures of the tool itself."""

    cases: int
    problems: tuple[str, ...]
    tool_errors: int


def fuzz(url: str, token: str, *, examples: int, folder: Path) -> Fuzzed:
    """Send up to ``examples`` random cases an operation, and every boundary of the schema."""
    report, told = folder / "schemathesis.json", folder / "schemathesis.txt"
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"]
    command += [
        "-H",
        f"dapr-api-token: {token}",
        "--seed",
        str(SEED),
        "--checks",
        ",".join(CHECKS),
        "--no-shrink",
    ]
    command += [
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        str(examples),
        "--workers",
        "2",
    ]
    command += [
        "--suppress-health-check",
        "all",
        "--report",
        "json",
        "--report-json-path",
        str(report),
    ]
    with told.open("w") as output:
        subprocess.run(command, stdout=output, stderr=output, timeout=OUTER_LIMIT_S, check=False)
    found = json.loads(report.read_text())
    own = [error for error in found["errors"] if error["title"] == TOOLS_OWN]
    problems = [*found["failures"], *(error for error in found["errors"] if error not in own)]
    return Fuzzed(
        cases=int(found["test_cases"]["generated"]),
        problems=tuple(json.dumps(one)[:500] for one in problems),
        tool_errors=sum(error["count"] for error in own),
    )
