# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv/ first, once.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# What an install compiles: editable or not, it is then to be installed again.
COMPILED := hatch_build.py $(wildcard worker/quantfleet_worker/collecting/*.[ch])
# PaddleSlim goes in without its dependencies: they pin an opencv-python that does not load with numpy 2.
PIP_FLAGS := --quiet --disable-pip-version-check
PADDLESLIM := --no-deps paddleslim==2.6.0

# The benchmarks' peers bring 1 GB of packages: they have an environment of their own, which only the benchmarks make.
BENCH_VENV := .bench-venv
BENCH_INSTALLED := $(BENCH_VENV)/.installed

.PHONY: demo test test-namespaces test-arm lint protos clean bench-calibration bench-accuracy

demo: $(INSTALLED) examples/digits/data/.prepared
	$(BIN)/quantfleet run examples/digits/job.yaml --out demo-report

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Needs root: the fleet in four network namespaces.
test-namespaces: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/test_namespaces.py

# Needs root, and Debian's debootstrap and qemu-user-static: values (never times) on emulated ARM processors, in half an
# hour. ARM_ROOT=folder: where the arm64 root is kept, 1.5 GB from Debian's mirror and PyPI (.arm-root/ unless set).
test-arm: $(INSTALLED)
	$(if $(ARM_ROOT),ARM_ROOT=$(ARM_ROOT)) $(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/arm

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/lint-imports

protos: $(INSTALLED)
	protos/generate.sh

# DATA=folder: trained networks and samples (bench/README.md). ONLY=ours,nncf: these tools; MODEL=name: this network.
bench-calibration: $(BENCH_INSTALLED)
	$(BENCH_VENV)/bin/python -m bench.calibration $(if $(DATA),--data $(DATA)) $(if $(ONLY),--only $(ONLY)) $(if $(MODEL),--model $(MODEL))

bench-accuracy: $(BENCH_INSTALLED)
	@test -n "$(DATA)" || { echo "Name the folder with models and images: make bench-accuracy DATA=folder (bench/README.md)" >&2; exit 2; }
	$(BENCH_VENV)/bin/python -m bench.accuracy --data $(DATA) $(if $(ONLY),--only $(ONLY)) $(if $(MODEL),--model $(MODEL))

examples/digits/data/.prepared: examples/digits/prepare.py | $(INSTALLED)
	$(BIN)/python examples/digits/prepare.py examples/digits/data
	@touch $@

# The constraints are the versions that were tried together; pyproject.toml says which others may do.
$(INSTALLED): pyproject.toml constraints.txt $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m pip install $(PIP_FLAGS) $(PADDLESLIM)
	@touch $@

$(BENCH_INSTALLED): pyproject.toml constraints.txt bench/requirements.txt $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install $(PIP_FLAGS) --requirement bench/requirements.txt --editable '.[all]'
	$(BENCH_VENV)/bin/python -m pip install $(PIP_FLAGS) $(PADDLESLIM)
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) demo-report examples/*/data
