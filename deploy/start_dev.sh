#!/usr/bin/env bash
# Start the service with sidecar, Postgres and Redis in containers: ./deploy/start_dev.sh [--build]
set -euo pipefail
cd "$(dirname "$0")"

case "${1:-}" in
  "" | --build) ;;
  *) echo "usage: $0 [--build]" >&2; exit 2 ;;
esac
if ! docker compose version >/dev/null 2>&1; then
  echo "start_dev: needs docker with the compose plugin" >&2
  exit 1
fi
if [[ ! -f ../.env ]]; then
  cp ../.env.sample ../.env
  echo "start_dev: wrote .env from .env.sample"
fi
docker compose --env-file ../.env -f docker-compose-dev.yaml up --detach --wait ${1:+"$1"}
echo "service:  http://127.0.0.1:9083   sidecar: http://127.0.0.1:3510"
