# Everything is installed into .venv from Python wheels; python3 (3.11 or newer), g++, make and perl must be there.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Each test worker and each matrix product has one core: two cores are all that the suite needs.
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test bench-quick lint lower-bounds docs clean

demo: $(VENV)/ready
	$(BIN)/tenzo train --recipe recipes/digits.toml --device sim --run runs/demo --overwrite
	$(BIN)/tenzo verify runs/demo

test: $(VENV)/ready-test
	$(BIN)/pytest -n 2 --dist loadgroup --ignore tests/bench

# The MNIST benchmark in minutes: everything that the long one measures, on a few steps.
bench-quick: $(VENV)/ready-bench
	$(BIN)/pytest tests/bench
	$(BIN)/tenzo bench mnist --quick

lint: $(VENV)/ready-lint
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/basedpyright

docs: $(VENV)/ready
	$(BIN)/python docs/generate.py

# The oldest versions that pyproject.toml allows pass the tests of the host and the model.
lower-bounds: $(VENV)/ready
	$(BIN)/python tests/lower_bounds.py

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sim]'
	touch $@

$(VENV)/ready-test: $(VENV)/ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sim,boards,test]'
	touch $@

$(VENV)/ready-bench: $(VENV)/ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sim,boards,test,bench]'
	touch $@

$(VENV)/ready-lint: $(VENV)/ready-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[sim,boards,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) runs
