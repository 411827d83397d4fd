#!/usr/bin/env bash
# Write requirements.lock (service and development tools), deploy/requirements.lock (the service alone, same versions) and
# tests/benchmarks/requirements.lock (what benchmarks compare with):
# pinned and hashed, with no index or host in them.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${1:-uv}"
fresh="$(mktemp)"
trap 'rm -f "$fresh"' EXIT

resolve() {
  local lock="$1"
  shift
  {
    echo "# Written by \`make lock\` from pyproject.toml. Do not edit."
    "$uv" pip compile pyproject.toml --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet "$@"
  } >"$fresh"
  if grep -nE '://|^-' "$fresh"; then
    echo "lock: an address or an option slipped into the lock (above); nothing written" >&2
    return 1
  fi
  cp "$fresh" "$lock"
  echo "lock: $(grep -c '==' "$lock") packages in $lock"
}

resolve requirements.lock --group dev
resolve deploy/requirements.lock --constraint requirements.lock
resolve tests/benchmarks/requirements.lock --group rivals --constraint requirements.lock
