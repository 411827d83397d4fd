#!/usr/bin/env bash
# Hold the locked packages of the service against the published advisories; where those cannot be reached, say so and go on.
set -uo pipefail
cd "$(dirname "$0")/.."
uv="${1:-uv}"

if ! python3 -c 'import socket; socket.create_connection(("api.osv.dev", 443), 5)' 2>/dev/null; then
  echo "audit: skipped: api.osv.dev, where the advisories are, cannot be reached from here"
  exit 0
fi
"$uv" tool run pip-audit --requirement deploy/requirements.lock --require-hashes --disable-pip --vulnerability-service osv
