# Two commands on a fresh machine: `make demo` and `make test`. Everything lives in .venv; a stamp
# makes later runs instant.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
MEASUREMENTS := $(or $(BUDSIM_DATA),../shared/data)

.DEFAULT_GOAL := help
.PHONY: help setup demo test check audit format lock docs notebook train rivals bench bench-search soak \
  fuzz client serve clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 10

setup: $(STAMP)  ## create .venv and install the locked dependencies

$(STAMP): requirements.lock pyproject.toml scripts/setup_venv.sh
	@./scripts/setup_venv.sh $(VENV)
	@touch $@

demo: $(STAMP)  ## what to deploy for Llama-3.1-70B on H100, Gaudi 3 and Xeon nodes
	$(BIN)/budsim simulate --model meta-llama/Llama-3.1-70B-Instruct --cluster docs/examples/demo-cluster.yaml \
	  --input-tokens 2048 --output-tokens 512 --concurrency 64 --ttft-ms 2000 --tokens-per-s-per-user 20

test: $(STAMP)  ## start Postgres and Redis on loopback, run every test, stop them
	@./scripts/start_test_servers.sh $(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(STAMP)  ## style, types and import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy budsim/
	$(BIN)/lint-imports

audit: $(STAMP)  ## known vulnerabilities of the locked packages, where advisories can be reached
	@./scripts/audit.sh $(BIN)/uv

format: $(STAMP)  ## repair what ruff can repair
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(STAMP)  ## add what pyproject.toml asks for to requirements.lock; UPGRADE=1 renews all versions
	@./scripts/lock.sh $(BIN)/uv

docs: $(STAMP)  ## build the docs site into site/; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

notebook: $(STAMP)  ## run docs/notebook.ipynb; NOTEBOOK=--write keeps what it prints
	$(BIN)/python scripts/run_notebook.py $(NOTEBOOK)

train: $(STAMP)  ## fit the shipped regressors on the measurements in BUDSIM_DATA
	$(BIN)/budsim train --data $(MEASUREMENTS)

rivals: $(STAMP)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --only-binary :all: -r tests/benchmarks/requirements.lock

bench: rivals  ## time and peak memory of the import, the demo and large clusters; candidates a second; loading
	@$(BIN)/python scripts/bench.py
	@OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python scripts/bench_predictions.py
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.speed
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.replay_speed

bench-search: rivals  ## the search against the truth, random search and pymoo on 14 spaces; SEARCH="--drawn 100" on others
	@OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.search $(SEARCH)

soak: $(STAMP)  ## load, kills, faults, memory and replicas on real servers; SOAK="load kills --scale 0.1" for less
	@TEST_POSTGRES_FSYNC=on ./scripts/start_test_servers.sh $(BIN)/python -m tests.soak $(SOAK)

fuzz:  ## 20,000 requests made from the OpenAPI document, against the service on real servers
	@$(MAKE) --no-print-directory soak SOAK=fuzz

client: $(STAMP)  ## a client generated from the OpenAPI document calls the service, in an environment of its own
	@$(BIN)/python scripts/check_client.py

serve: $(STAMP)  ## the service on loopback, embedded (SQLite, inventory from the demo file)
	$(BIN)/budsim serve --host 127.0.0.1 --port 8000 --inventory docs/examples/demo-cluster.yaml

clean:  ## remove the environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
