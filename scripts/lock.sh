#!/usr/bin/env bash
# Write requirements.lock (service and development tools), deploy/requirements.lock (the service alone, same versions),
# tests/benchmarks/requirements.lock (what benchmarks compare with) and scripts/client.lock (the generator of HTTP clients):
# pinned and hashed, with no index or host in them. Versions that are locked already stay; UPGRADE=1 takes the newest of all.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${1:-uv}"
fresh="$(mktemp)"
trap 'rm -f "$fresh"' EXIT

resolve() {
  local lock="$1"
  shift
  # uv keeps the versions it finds in its output file.
  if [[ "${UPGRADE:-}" == 1 ]]; then : >"$fresh"; else cp "$lock" "$fresh"; fi
  "$uv" pip compile --universal --python-version 3.11 --generate-hashes --no-annotate --no-header --quiet \
    --output-file "$fresh" "$@" >/dev/null
  sed -i '1i # Written by `make lock` from pyproject.toml. Do not edit.' "$fresh"
  if grep -nE '://|^-' "$fresh"; then
    echo "lock: an address or an option slipped into the lock (above); nothing written" >&2
    return 1
  fi
  cp "$fresh" "$lock"
  echo "lock: $(grep -c '==' "$lock") packages in $lock"
}

resolve requirements.lock pyproject.toml --group dev --extra ui
resolve deploy/requirements.lock pyproject.toml --extra ui --constraint requirements.lock
resolve tests/benchmarks/requirements.lock pyproject.toml --group rivals --constraint requirements.lock
resolve scripts/client.lock --group client
