# The two commands of a newcomer are `make run` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

RAW ?= ../shared/data

.PHONY: run test lint benchmark results clean

run: $(VENV)/installed ## train and judge a small model on phantom films
	$(BIN)/kedro run --env demo --pipeline=effusion

test: $(VENV)/installed-dev ## the whole test suite
	$(BIN)/python -m pytest

lint: $(VENV)/installed-dev ## style, types, import directions
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

benchmark: $(VENV)/installed-dev ## each one prints a ratio, measured in one run
	for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

results: $(VENV)/installed ## every task on real films below RAW, into docs/results.md
	$(BIN)/python docs/results.py $(RAW)
	$(BIN)/python docs/results.py $(RAW) --ablation

clean: ## remove the virtual environment and the demo's data
	rm -rf $(VENV) data/demo

$(BIN)/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if v == (3, 11) else f"Python 3.11 is needed, found {v[0]}.{v[1]}: make run PYTHON=/path/to/python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@
