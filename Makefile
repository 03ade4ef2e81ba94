# The words of this house. `make demo` and `make test` do all the set-up that they need.

SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3.14 python3; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { command -v "$$p"; break; }; done)

# Where no bytecode is kept, each of the many processes that are started compiles the house anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup dev lock fmt lint types unit test bench run demo demo-llamaparse double docs clean

help: ## say what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /	/' | expand -t 18

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Parsewire needs Python 3.11 or newer with venv: install it (Debian: apt-get install python3 python3-venv; macOS: brew install python), or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(BIN)/python
	$(PIP) install -q --require-hashes -r requirements.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements-dev.lock pyproject.toml | $(BIN)/python
	$(PIP) install -q --require-hashes -r requirements-dev.lock
	$(PIP) install -q --no-deps --no-build-isolation -e .
	@touch $@ $(VENV)/.run

setup: $(VENV)/.run ## make .venv with what Parsewire needs to run

dev: $(VENV)/.dev ## add what its tests and checks need

lock: $(BIN)/python ## write the lock files anew
	$(PIP) install -q uv
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --group build -o requirements.lock
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml --group dev -c requirements.lock -o requirements-dev.lock

fmt: dev ## format the source
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix-only -q .

lint: dev ## check form and style; writes nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: dev ## check types
	$(BIN)/mypy

unit: dev ## the tests that need no broker and no process
	$(BIN)/pytest -n 2 --dist loadfile tests/unit

test: dev ## every test that this machine can run
	$(BIN)/pytest -n 4 --dist loadfile --no-loadscope-reorder

bench: dev ## speeds as ratios within one run, into build/bench.json
	$(BIN)/python -m bench

demo: setup ## a document through everything, and stop
	$(BIN)/parsewire demo

demo-llamaparse: setup ## the same by way of LlamaParse: a double of LlamaCloud, signed webhooks
	$(BIN)/python -m tests.doubles.llamacloud.demo $(ARGS)

run: setup ## the same, and stay
	$(BIN)/parsewire demo --stay

double: dev ## a LlamaCloud on this machine, for work without a key; ARGS="--fault webhook=lost:0.2"
	$(BIN)/python -m tests.doubles.llamacloud $(ARGS)

docs: setup ## write the tables of the documentation anew
	$(BIN)/python -m services.documentation

clean: ## remove what was made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
