#!/usr/bin/env bash
# Run the given command with a Postgres and a Redis of its own on loopback, and stop both when it ends.
#
# Exports TEST_DATABASE_URL, TEST_REDIS_URL and TEST_CHROMIUM (the browser of the page's tests) for what could be started or
# found, and says what will be skipped otherwise.
set -uo pipefail

folder="$(mktemp -d -t budsim-servers.XXXXXX)"
chmod 755 "$folder"
redis_pid=""
postgres_bin=""
as_owner=()

say() { echo "test servers: $*" >&2; }

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

install_packages() {
  if [[ "$(id -u)" != 0 ]] || ! command -v apt-get >/dev/null; then return 1; fi
  say "installing $*"
  apt-get update -qq >/dev/null 2>&1
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >"$folder/apt.log" 2>&1 || {
    tail -3 "$folder/apt.log" >&2
    return 1
  }
}

find_postgres() {
  local pg_ctl
  pg_ctl="$(compgen -G '/usr/lib/postgresql/*/bin/pg_ctl' | sort -V | tail -1)"
  [[ -n "$pg_ctl" ]] || pg_ctl="$(command -v pg_ctl)" || return 1
  postgres_bin="$(dirname "$pg_ctl")"
}

start_postgres() {
  find_postgres || { install_packages postgresql && find_postgres; } || return 1
  local store="$folder/postgres" port
  mkdir "$store"
  if [[ "$(id -u)" == 0 ]]; then  # Postgres refuses to run as root
    id postgres >/dev/null 2>&1 || return 1
    chown postgres "$store"
    as_owner=(runuser -u postgres --)
  fi
  port="$(free_port)"
  cd "$store" || return 1
  "${as_owner[@]}" "$postgres_bin/initdb" -D "$store/cluster" -U budsim --auth=trust -E UTF8 --no-sync >"$folder/initdb.log" 2>&1 || {
    tail -3 "$folder/initdb.log" >&2
    return 1
  }
  "${as_owner[@]}" "$postgres_bin/pg_ctl" -D "$store/cluster" -l "$store/log" -w -t 30 \
    -o "-p $port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$store -c fsync=${TEST_POSTGRES_FSYNC:-off}" start >/dev/null 2>&1 || {
    tail -3 "$store/log" >&2
    return 1
  }
  "$postgres_bin/createdb" -h 127.0.0.1 -p "$port" -U budsim budsim_test || return 1
  export TEST_SERVERS_FOLDER="$folder" TEST_POSTGRES_BIN="$postgres_bin"
  export TEST_DATABASE_URL="postgresql+psycopg2://budsim@127.0.0.1:$port/budsim_test"
}

start_redis() {
  command -v redis-server >/dev/null || install_packages redis-server || return 1
  command -v redis-server >/dev/null || return 1
  local port
  port="$(free_port)"
  redis-server --bind 127.0.0.1 --port "$port" --save '' --appendonly no --dir "$folder" >"$folder/redis.log" 2>&1 &
  redis_pid=$!
  for _ in {1..50}; do
    if redis-cli -h 127.0.0.1 -p "$port" ping >/dev/null 2>&1; then
      export TEST_REDIS_URL="redis://127.0.0.1:$port/0"
      return 0
    fi
    sleep 0.1
  done
  return 1
}

find_chromium() {
  local name
  for name in chromium-headless-shell chromium chromium-browser google-chrome; do
    TEST_CHROMIUM="$(command -v "$name")" && export TEST_CHROMIUM && return 0
  done
  return 1
}

install_what_is_missing() {
  local missing=()
  find_postgres || missing+=(postgresql)
  command -v redis-server >/dev/null || missing+=(redis-server)
  find_chromium || missing+=(chromium-headless-shell fonts-dejavu-core)
  if ((${#missing[@]})); then install_packages "${missing[@]}"; fi
}

stop_servers() {
  if [[ -n "$redis_pid" ]]; then
    kill "$redis_pid" 2>/dev/null
    wait "$redis_pid" 2>/dev/null
  fi
  if [[ -f "$folder/postgres/cluster/postmaster.pid" ]]; then
    (cd "$folder/postgres" && "${as_owner[@]}" "$postgres_bin/pg_ctl" -D "$folder/postgres/cluster" -m immediate stop >/dev/null 2>&1)
  fi
  rm -rf "$folder"
}

here="$PWD"
trap stop_servers EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# All at once: each call of apt-get update takes seconds. What fails here is tried again alone below.
install_what_is_missing
if start_postgres; then say "Postgres at ${TEST_DATABASE_URL#*@}"; else say "no Postgres here: tests on Postgres are skipped"; fi
cd "$here" || exit 1
if start_redis; then say "Redis at ${TEST_REDIS_URL#*//}"; else say "no Redis here: tests on Redis are skipped"; fi
if find_chromium || { install_packages chromium-headless-shell fonts-dejavu-core && find_chromium; }; then
  say "browser $TEST_CHROMIUM"
else
  say "no Chromium here: tests of the page are skipped"
fi
"$@"
