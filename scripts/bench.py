"""Time and peak memory of importing budsim and of the demo simulation.

Each runs in a process of its own.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
DEMO = (
    "simulate --model meta-llama/Llama-3.1-70B-Instruct "
    "--cluster docs/examples/demo-cluster.yaml --input-tokens 2048"
    " --output-tokens 512 --concurrency 64 --ttft-ms 2000 --tokens-per-s-per-user 20 --json"
).split()
BUDGETS = {"import": (1.0, None), "simulate": (3.0, 400.0)}
COMMANDS = {
    "import": ["-c", "import budsim.cli"],
    "simulate": ["-c", "from budsim.cli import main; main()", *DEMO],
}


def main() -> int:
    """Print one line per command, on one core; 1 when a budget is exceeded."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return max(_report(name, *_measure(arguments)) for name, arguments in COMMANDS.items())


def _measure(arguments: list[str]) -> tuple[float, float]:
    """Best wall time of three runs, s, and peak resident memory, MB (10^6 bytes).

    The memory is that of the largest child so far.
    """
    walls = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run(
            [sys.executable, *arguments],
            cwd=REPOSITORY,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        walls.append(time.perf_counter() - start)
    return min(walls), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e6


def _report(name: str, wall_s: float, peak_mb: float) -> int:
    budget_s, budget_mb = BUDGETS[name]
    over = wall_s > budget_s or (budget_mb is not None and peak_mb > budget_mb)
    limits = f"at most {budget_s:.1f} s" + (f", {budget_mb:.0f} MB" if budget_mb else "")
    print(
        f"{name:<10}{wall_s:6.2f} s {peak_mb:7.0f} MB   ({limits}){'  OVER BUDGET' if over else ''}"
    )
    return int(over)


if __name__ == "__main__":
    sys.exit(main())
