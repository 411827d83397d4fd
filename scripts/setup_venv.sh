#!/usr/bin/env bash
# Create the virtual environment named by the first argument and install the locked, hash-checked dependencies into it.
set -euo pipefail
cd "$(dirname "$0")/.."
venv="${1:-.venv}"

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
  local python
  for python in /usr/bin/python3.11 python3.11 python3.12 python3.13 python3; do
    if command -v "$python" >/dev/null && is_new_enough "$python"; then echo "$python"; return; fi
  done
  echo "setup: no Python 3.11 or newer found; install python3.11" >&2
  return 1
}

install_venv_module() {
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then
    echo "setup: $1 has no venv module; as root: apt-get install python3-venv" >&2
    return 1
  fi
  echo "setup: installing python3-venv" >&2
  apt-get update -qq >&2
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends python3-venv >&2
}

python="$(find_python)"
if [[ ! -x "$venv/bin/pip" ]]; then
  "$python" -c 'import ensurepip, venv' 2>/dev/null || install_venv_module "$python"
  echo "setup: creating $venv with $("$python" --version)" >&2
  "$python" -m venv "$venv"
fi
echo "setup: installing requirements.lock" >&2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
"$venv/bin/pip" install --quiet --require-hashes --only-binary :all: -r requirements.lock
"$venv/bin/pip" install --quiet --no-deps --no-build-isolation --editable .
