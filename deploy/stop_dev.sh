#!/usr/bin/env bash
# Stop what start_dev.sh started; --volumes also forgets the databases.
set -euo pipefail
cd "$(dirname "$0")"

case "${1:-}" in
  "" | --volumes) ;;
  *) echo "usage: $0 [--volumes]" >&2; exit 2 ;;
esac
docker compose -f docker-compose-dev.yaml down ${1:+"$1"}
