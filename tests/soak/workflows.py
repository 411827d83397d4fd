"""Parts of a soak with a real Dapr, where its programs are on the PATH: runs are its workflows."""

import asyncio
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.soak.findings import Finding, accounted, none, told_only
from tests.soak.ledger import read, settle
from tests.soak.processes import REPOSITORY
from tests.soak.real_dapr import missing_programs
from tests.soak.stack import Stack, running
from tests.soak.strangers import pauses
from tests.soak.traffic import Answers, insistently

RUNS = 60
KILLS = 8
"""SIGKILLs of replicas and sidecars; scheduler and placement are killed as often together."""
BETWEEN_S = (0.5, 3.0)


def workflows(scale: float) -> Iterator[Finding]:
    """Test a sidecar, pause and resume in a storm, and kill every part while runs go on."""
    if missing := missing_programs():
        yield told_only("a real Dapr", f"not on the PATH: {', '.join(missing)}")
        return
    yield _sidecar_tests()
    yield from pauses(scale, real_dapr=True)
    yield from _killed(scale)


def _sidecar_tests() -> Finding:
    with running(1, real_dapr=True, APP_API_TOKEN="soak", DAPR_API_TOKEN="soak") as stack:
        port = stack.replicas[0].dapr_http_port
        ran = subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/test_sidecar.py"),
                *("--dapr-http-port", str(port), "--dapr-api-token", "soak"),
            ],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        (stack.folder / "tests.log").write_text(ran.stdout + ran.stderr)
    last = (ran.stdout.strip().splitlines() or ["nothing"])[-1]
    good = ran.returncode == 0 and "skipped" not in last
    return Finding(what="tests/test_sidecar.py", found=last, wanted="all pass", good=good)


def _killed(scale: float) -> Iterator[Finding]:
    runs, times = max(10, int(RUNS * scale)), max(4, int(KILLS * scale))
    answers = Answers()
    with running(2, real_dapr=True, LEASE_S="5", POLL_S="0.2", WORKER_PROCESSES="1") as stack:
        urls = [replica.url for replica in stack.replicas]
        started_s = time.monotonic()

        async def both() -> None:
            killing = asyncio.create_task(asyncio.to_thread(_kill, stack, times))
            await insistently(lambda: urls, range(runs), 10.0, answers, method="heuristic")
            await killing

        asyncio.run(both())
        settle(stack.database_url)
        took_s = time.monotonic() - started_s
        ledger = read(stack.database_url, stack.redis_url)
    yield none(f"of {runs} runs did not complete", ledger.lost(answers.accepted))
    yield from accounted(ledger, answers)
    yield told_only(f"{2 * times} kills of replicas, sidecars and control plane", f"{took_s:.0f} s")


def _kill(stack: Stack, times: int) -> None:
    """Kill a replica or a sidecar, then a part of the control plane, each so many times."""
    chosen = random.Random(0)
    assert stack.dapr is not None
    control = [stack.dapr.placement, stack.dapr.scheduler]
    for turn in range(times):
        replica = chosen.choice(stack.replicas)
        for process in (chosen.choice([replica.process, replica.sidecar]), control[turn % 2]):
            assert process is not None
            time.sleep(chosen.uniform(*BETWEEN_S))
            process.end(signal.SIGKILL)
            process.start()
    for replica in stack.replicas:
        replica.wait_until_ready()
