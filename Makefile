# make run   the demo: cohort, training, scores, slide predictions and results/report.html
# make test  the tests; make test-slow  the longer proofs
# make help  every target

VENV := .venv
PYTHON ?= python3
BIN := $(VENV)/bin
CORES ?= 2
export PATH := $(CURDIR)/$(BIN):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help run report test test-slow check format lock bench clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/installed  ## Run the workflow on the demo cohort and write results/report.html
	snakemake --cores $(CORES)
	@$(MAKE) --no-print-directory report

report:  ## Write results/report.html of what is there
	@# Without the list of all that it adds; if it fails, once more to say why.
	snakemake --cores $(CORES) --report results/.part.report.html --quiet all \
		|| snakemake --cores $(CORES) --report results/.part.report.html
	mv results/.part.report.html results/report.html
	@echo "Open results/report.html; slide predictions are in results/slides (to look at them in a browser: snakemake view)."

test: $(VENV)/installed-dev  ## Run the tests, and say at the end what was skipped and why
	pytest --numprocesses $(CORES) --dist loadfile -m "not slow"

test-slow: $(VENV)/installed-dev  ## Run the longer proofs that make test leaves out
	pytest --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder -m slow

check: $(VENV)/installed-dev  ## Check style, types and rules
	ruff check .
	ruff format --check .
	snakefmt --check Snakefile rules
	mypy
	snakemake --lint

format: $(VENV)/installed-dev  ## Lay out code
	ruff check --fix .
	ruff format .
	snakefmt Snakefile rules

lock: $(VENV)/installed-dev  ## Renew the locks from requirements.in and requirements-dev.in
	uv pip compile --quiet requirements.in --output-file requirements.txt
	uv pip compile --quiet requirements-dev.in --constraint requirements.txt --output-file requirements-dev.txt

bench: $(VENV)/installed-dev build/bench/monai  ## Measure speed beside the tutorial's way and MONAI (half an hour)
	PYTHONPATH=scripts:build/bench python benchmarks/prediction.py
	PYTHONPATH=scripts:build/bench python benchmarks/large_slide.py
	PYTHONPATH=scripts python benchmarks/resampling.py
	PYTHONPATH=scripts python benchmarks/training.py
	PYTHONPATH=scripts python benchmarks/reading.py
	PYTHONPATH=scripts python benchmarks/pipeline.py
	python benchmarks/scale.py
	PYTHONPATH=scripts python benchmarks/batches.py

build/bench/monai: benchmarks/requirements.txt $(VENV)/installed
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes --only-binary :all: --upgrade --target build/bench --requirement $<
	touch $@

clean:  ## Remove the environment and all results
	rm -rf $(VENV) .snakemake build results

$(VENV)/installed: requirements.txt requirements-cpu.txt envs/install.py
	$(PYTHON) -c 'import sys; sys.exit(None if (3, 11) <= sys.version_info < (3, 14) else "pathseg needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python envs/install.py requirements.txt
	touch $@

$(VENV)/installed-dev: requirements-dev.txt $(VENV)/installed
	$(BIN)/python envs/install.py requirements-dev.txt
	touch $@
