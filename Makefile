# Every target sets up what it needs in .venv by itself; nothing has to be installed by hand.
.PHONY: demo test docs package chaos interop fuzz bench lint clean
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python3.10; do \
	"$$p" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' >/dev/null 2>&1 && { echo "$$p"; break; }; done)
PYTEST_ARGS ?= -n auto

help: ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort

demo: $(VENV)/.demo ## six services, real processes, one Valkey: watch them trust and refuse each other
	$(BIN)/python examples/edge-demo/run.py $(DEMO_ARGS)

test: $(VENV)/.test ## lint, types, docs, all tests, coverage
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m tests.docs_site
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/python -m tests.coverage_report

docs: $(VENV)/.test ## the site of the docs, strictly, into .site/html
	$(BIN)/python -m tests.docs_site

package: $(VENV)/.test ## wheel and sdist in dist/: checked, typed, installed on every Python that is here, with the demo
	@$(BIN)/python -m pip install --quiet --group package
	$(BIN)/python -m tests.package_check

chaos: $(VENV)/.test ## calls for a minute or more while Redis is killed, stopped and flushed, and keys are revoked
	$(BIN)/python -m tests.chaos $(CHAOS_ARGS)

interop: $(VENV)/.test ## other people's software beside us, both ways; the table goes into docs/interop.md
	$(BIN)/python -m tests.interop $(INTEROP_ARGS)

bench: $(VENV)/.bench ## speed beside the peers, into benchmarks/results; BENCH_ARGS="--quick" for a first look
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

fuzz: $(VENV)/.test ## ten minutes of hostile input, guided by coverage where atheris can be had; FUZZ_ARGS="--seconds 60 token"
	@$(BIN)/python -c 'import atheris' 2>/dev/null || $(BIN)/python -m pip install --quiet --only-binary :all: atheris || true
	$(BIN)/python -m tests.fuzz $(FUZZ_ARGS)

lint: $(VENV)/.test ## format, lint, types
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/mypy

clean: ## remove .venv and everything that was generated
	rm -rf $(VENV) .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .site dist

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "s2s_mesh needs Python 3.10 or newer; set PYTHON=/path/to/python"; exit 1; }
	@echo "making $(VENV) with $(PYTHON) ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	@echo "installing s2s-mesh and what the demo needs into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[cli]' --group demo
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	@echo "installing s2s-mesh and what the tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[cli]' --group lint
	@touch $@

$(VENV)/.bench: pyproject.toml | $(BIN)/python
	@echo "installing s2s-mesh and the peers that it is measured against into $(VENV)"
	@$(BIN)/python -m pip install --quiet --editable '.[cli]' --group bench
	@command -v wrk >/dev/null || echo "wrk is not installed: part http will be left out (apt-get install wrk)"
	@touch $@
