# Two commands on a fresh machine: `make reproduce` and `make test`. Both make .venv if missing.

PYTHON ?= python3
CORES ?= all
CONFIG ?= config/config.yaml
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: help install plan report reproduce smoke clean bench bench-gpu test test-parts test-runs test-faults test-slurm test-slurm-long lint docs

help:
	@echo "make install     the environment in .venv; then: . .venv/bin/activate"
	@echo "make plan        what make reproduce would run, and about how long"
	@echo "make reproduce   tables, figures and report of the default configuration, or of CONFIG=FILE"
	@echo "make report      the report of what is done so far; or of CONFIG=FILE"
	@echo "make smoke       the same workflow on tiny models, in a few minutes"
	@echo "make clean       remove what runs have made: results and figures that git does not keep; models stay"
	@echo "make bench       the engine's plain path against its fast one, scaling, streams; on two idle cores"
	@echo "make bench-gpu   KL against norm at the paper's scale, random weights; needs a GPU"
	@echo "make test        lint, unit and conformance tests, the smoke workflow and its checks"
	@echo "make docs        the documentation as a site, in build/docs"
	@echo "make test-faults runs killed, damaged and repaired: bad input, full disks; long"
	@echo "make test-slurm  the smoke workflow on a SLURM cluster that it sets up here; as root on Debian"
	@echo "make test-slurm-long  the same, and runs on it killed, stopped and resumed"
	@echo "CORES=4 make …   use four cores instead of all"

# torch first and by its exact version: other packages then take the build that is there.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=")'
	test -d .venv || $(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt "$$(grep '^torch==' constraints.txt)"
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

install: $(BIN)/.installed

report: $(BIN)/.installed
	smedit report $(CONFIG)

plan: $(BIN)/.installed
	smedit check $(CONFIG)

reproduce: $(BIN)/.installed
	snakemake reproduce --cores $(CORES) --configfile $(CONFIG)

smoke: $(BIN)/.installed
	snakemake smoke --cores $(CORES)

clean: $(BIN)/.installed
	python -m smedit.hosting.clean

# Measured anew each time, unlike anything else: the numbers are those of this machine as it is now.
bench bench-gpu: $(BIN)/.installed
	snakemake $(subst -,_,$@) --snakefile workflow/benchmark.smk --forcerun measure --cores $(CORES)
	cat results/$(@:bench%=benchmark%).txt

lint: $(BIN)/.installed
	ruff check .
	ruff format --check .
	mypy
	snakefmt --check Snakefile workflow
	snakemake --lint
	snakemake --lint --snakefile workflow/benchmark.smk
	$(MAKE) docs

# Read anew each time (-E), as pages kept from before would not warn again.
docs: $(BIN)/.installed
	sphinx-build -W -q -E --keep-going -b html docs build/docs

# Two side by side, as most of it uses one core; each one's output at its end.
test: $(BIN)/.installed
	$(MAKE) -j2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target) test-parts lint test-runs

test-parts: $(BIN)/.installed
	pytest --ignore=tests/workflow

test-runs: $(BIN)/.installed
	pytest tests/workflow

test-faults: $(BIN)/.installed
	pytest tests/faults -m "long or not long"

# Jobs are killed and tried again on purpose; nothing of the cluster is left behind.
test-slurm: $(BIN)/.installed
	pytest tests/slurm

test-slurm-long: $(BIN)/.installed
	pytest tests/slurm -m "long or not long"
