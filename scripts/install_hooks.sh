#!/usr/bin/env bash
# Set up .venv and make git run the checks of .pre-commit-config.yaml before each commit.
set -euo pipefail
cd "$(dirname "$0")/.."
make --silent setup
.venv/bin/pre-commit install
