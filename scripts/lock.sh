#!/usr/bin/env bash
# Write requirements.lock: every dependency and development tool, pinned and hashed, with no index or host in it.
set -euo pipefail
cd "$(dirname "$0")/.."
uv="${1:-uv}"
fresh="$(mktemp)"
trap 'rm -f "$fresh"' EXIT

{
  echo "# Written by \`make lock\` from pyproject.toml. Do not edit."
  "$uv" pip compile pyproject.toml --group dev --universal --python-version 3.11 --generate-hashes --no-annotate --no-header \
    --quiet "${@:2}"
} >"$fresh"
if grep -nE '://|^-' "$fresh"; then
  echo "lock: an address or an option slipped into the lock (above); nothing written" >&2
  exit 1
fi
cp "$fresh" requirements.lock
echo "lock: $(grep -c '==' requirements.lock) packages"
