# Start with `make run` and `make test`.

PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || command -v python3.13 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

RAW ?= ../shared/data

# Of test-faults: another seed makes other faults.
SEED ?= 1
KILLS ?= 4
INPUTS ?= 700

# Integration tests come first: the longest file must not be the last to start.
PYTEST = $(BIN)/python -m pytest --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

# The wheel with its dependencies and nothing else, which the SBOM lists.
WHEEL_VENV := .venv-wheel

# The variable silences advertising for the successor of MkDocs.
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Airflow pins other versions of shared dependencies: it has its own environment and calls this one.
AIRFLOW := .venv-airflow
RETRAININGS = $$($(BIN)/python -c 'from cxr_pipeline.framework.config_loader import task_names; print(*(f"{task}_retraining" for task in task_names()), sep=",")')

.PHONY: run notebooks test test-slow test-faults lint docs benchmark results airflow dags dist clean

run: $(VENV)/installed ## train and evaluate a small model on phantom images
	$(BIN)/kedro run --env demo --pipeline=effusion
	@echo 'Before you type kedro in a new terminal: . $(BIN)/activate'

notebooks: $(VENV)/installed-notebooks ## open the notebooks in JupyterLab
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/jupyter lab notebooks

test: $(VENV)/installed-dev $(AIRFLOW)/installed ## the test suite, without simulations, long training runs and faults
	$(PYTEST) -m "not slow and not faults"

test-slow: $(VENV)/installed-dev ## simulations and long training runs
	$(PYTEST) -m slow

test-faults: $(VENV)/installed-dev ## kills, damaged inputs, full disks: make test-faults SEED=2 KILLS=20 INPUTS=10000
	FAULTS_SEED=$(SEED) FAULTS_KILLS=$(KILLS) FAULTS_INPUTS=$(INPUTS) $(PYTEST) -m faults tests/faults

lint: $(VENV)/installed-dev ## style, types, import directions, documentation
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(DOCS)

docs: $(VENV)/installed-dev ## build the documentation in site/, from pages, docstrings and the models of the parameters
	$(DOCS)

benchmark: $(VENV)/installed-dev ## each one prints what it measures in one run
	for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

results: $(VENV)/installed ## run every task on real images below RAW and write docs/results.md
	$(BIN)/python docs/results.py $(RAW)
	$(BIN)/python docs/results.py $(RAW) --ablation

airflow: $(AIRFLOW)/installed ## Airflow, in an environment of its own

dags: $(VENV)/installed-airflow ## write a DAG for every retraining pipeline to airflow_dags/
	$(BIN)/kedro airflow create --jinja-file conf/airflow_dag.j2 --pipelines $(RETRAININGS)

dist: $(VENV)/installed-dev ## build wheel, sdist and a CycloneDX SBOM in dist/
	rm -rf dist $(WHEEL_VENV)
	$(BIN)/python -m build
	$(PYTHON) -m venv --without-pip $(WHEEL_VENV)
	$(PIP) --python $(WHEEL_VENV) install --constraint constraints.txt dist/*.whl
	wheel=$$(ls dist/*.whl) && $(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-file $${wheel%-py3-*}.cdx.json $(WHEEL_VENV)

clean: ## remove the virtual environments, the DAGs, dist/ and the data of the demo
	rm -rf $(VENV) $(AIRFLOW) $(WHEEL_VENV) airflow_dags build dist data/demo

%/bin/python:
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v <= (3, 13) else f"Python 3.11, 3.12 or 3.13 is needed, found {v[0]}.{v[1]}: make run PYTHON=/path/to/python3.13")'
	$(PYTHON) -m venv $*

$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --constraint constraints.txt --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/installed-airflow: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[airflow]'
	touch $@

$(VENV)/installed-notebooks: $(VENV)/installed
	$(PIP) install --constraint constraints.txt --editable '.[notebooks]'
	touch $@

$(AIRFLOW)/installed: constraints-airflow.txt | $(AIRFLOW)/bin/python
	$(AIRFLOW)/bin/python -m pip --disable-pip-version-check --quiet install --constraint constraints-airflow.txt apache-airflow
	touch $@
