"""A cluster and the options of a simulation that works, for the tests of the terminal."""

from pathlib import Path

import pytest

CLUSTER = """
clusters:
  - name: lab
    nodes:
      - {name: gpu, count: 2, devices: [{device: H100-SXM, count: 4}]}
      - {name: broken, down: true, devices: [{device: H100-SXM, count: 4}]}
"""


@pytest.fixture
def cluster(tmp_path: Path) -> str:
    """Path of a short YAML with two nodes of four H100 and one that is down."""
    file = tmp_path / "lab.yaml"
    file.write_text(CLUSTER)
    return str(file)


@pytest.fixture
def lengths() -> list[str]:
    """Options of short requests to a small model, by physics alone."""
    model = ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--analytic"]
    return [*model, "--input-tokens", "512", "--output-tokens", "128"]


@pytest.fixture
def load(lengths: list[str]) -> list[str]:
    """Options of sixteen such requests at a time."""
    return [*lengths, "--concurrency", "16"]


@pytest.fixture
def simulate(cluster: str, load: list[str]) -> list[str]:
    """Arguments of a simulation that works."""
    return ["simulate", "--cluster", cluster, *load]
