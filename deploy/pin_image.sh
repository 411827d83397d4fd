#!/usr/bin/env bash
# Pin the image of the production overlay: ./deploy/pin_image.sh registry.example/budsim@sha256:DIGEST
set -euo pipefail
cd "$(dirname "$0")/kubernetes/overlays/production"

if [[ ! "${1:-}" =~ ^([a-z0-9./:_-]+)@(sha256:[0-9a-f]{64})$ ]]; then
  echo "usage: $0 NAME@sha256:DIGEST (64 hexadecimal digits; docker push prints them)" >&2
  exit 2
fi
name="${BASH_REMATCH[1]}" digest="${BASH_REMATCH[2]}"
sed -i -E "s|^(    newName: ).*|\1$name|; s|^    (newTag\|digest): .*|    digest: $digest|" kustomization.yaml
echo "production runs $name@$digest"
