"""Load and faults on real servers: `make soak`, or `make soak SOAK="load --scale 0.1"` for less."""

import argparse
import sys
import time

from tests.soak.findings import Finding, machine
from tests.soak.parts import PARTS


def main() -> int:
    """Run the parts named, print a table, and return 1 when something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; all by default"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full numbers")
    chosen = parser.parse_args()
    if unknown := set(chosen.parts) - set(PARTS):
        parser.error(f"{', '.join(sorted(unknown))} not known; parts are {', '.join(PARTS)}")
    return max([_run(part, chosen.scale) for part in chosen.parts or PARTS])


def _run(part: str, scale: float) -> int:
    start_s = time.monotonic()
    print(f"{part} (x {scale:g}; {machine()})", flush=True)
    bad = 0
    for finding in PARTS[part](scale):
        _print(finding)
        bad += not finding.good
    print(f"  {time.monotonic() - start_s:.0f} s; {machine()}\n", flush=True)
    return int(bad > 0)


def _print(finding: Finding) -> None:
    mark = " " if not finding.wanted else "ok" if finding.good else "BAD"
    print(f"  {finding.what:<62} {finding.found:<44} {finding.wanted:<16} {mark}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
