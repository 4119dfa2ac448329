# Every target sets itself up: it needs Python 3.10 or newer (with venv) and make, nothing else.
#
#   make quickstart              train a tiny generator on the packaged pictures and sample from it
#   make test                    the tests
#   make test-all                the tests and the slow ones
#   make lint                    style, types and the import contract
#   make docs                    the documentation, into site/
#
# PYTHON=python3.12 chooses the interpreter, VENV=path the environment; ARGS="..." is handed on to
# `limner quickstart` or to pytest. pip's own variables (PIP_INDEX_URL, ...) are respected.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

BIN := $(VENV)/bin
CONSTRAINTS := constraints/cpu.txt
# Stamps: the environment is touched again only when one of these files changes.
INPUTS := pyproject.toml $(CONSTRAINTS) Makefile
RUNTIME := $(VENV)/.limner-runtime
DEV := $(VENV)/.limner-dev
PAGES := $(VENV)/.limner-docs
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS)

.PHONY: help setup quickstart test test-all lint docs format clean clean-all

help:
	@sed -n 's/^#   //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	  echo "limner needs Python 3.10 or newer: make PYTHON=python3.12 ..." >&2; exit 1; }
	@echo "creating $(VENV)"
	@$(PYTHON) -m venv $(VENV) || { rm -f $(BIN)/python; \
	  echo "could not create $(VENV); on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }

$(RUNTIME): $(INPUTS) | $(BIN)/python
	@echo "installing limner (the first time downloads PyTorch)"
	@$(INSTALL) -e .
	@touch $@

$(DEV): $(INPUTS) | $(BIN)/python
	@echo "installing limner and its development tools (the first time downloads PyTorch)"
	@$(INSTALL) -e '.[dev]'
	@touch $(RUNTIME) $@

$(PAGES): $(INPUTS) | $(BIN)/python
	@echo "installing limner and the tools of its documentation"
	@$(INSTALL) -e '.[docs]'
	@touch $(RUNTIME) $@

setup: $(DEV)

quickstart: $(RUNTIME)
	$(BIN)/limner quickstart $(ARGS)

test: $(DEV)
	$(BIN)/python -m pytest $(ARGS)

test-all: $(DEV)
	$(BIN)/python -m pytest -m "slow or not slow" $(ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(PAGES)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find limner tests tools -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean
	rm -rf $(VENV)
