# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv/ first, once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What an install compiles: editable or not, it is then to be installed again.
COMPILED := hatch_build.py $(wildcard worker/quantfleet_worker/collecting/*.[ch])

.PHONY: demo test test-namespaces lint protos clean

demo: $(INSTALLED) examples/digits/data/.prepared
	$(BIN)/quantfleet run examples/digits/job.yaml --out demo-report

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Needs root: the fleet in four network namespaces.
test-namespaces: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/test_namespaces.py

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

protos: $(INSTALLED)
	protos/generate.sh

examples/digits/data/.prepared: examples/digits/prepare.py | $(INSTALLED)
	$(BIN)/python examples/digits/prepare.py examples/digits/data
	@touch $@

# The constraints are the versions that were tried together; pyproject.toml says which others may do.
$(INSTALLED): pyproject.toml constraints.txt $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) demo-report examples/digits/data
