# The verbs of this repository. People and .ci/run use the same ones; plain `make` lists them.
#
# The environment is a stamp target: .venv/.installed (what runs the broker) and
# .venv/.installed-dev (what tests it) are remade when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
ARGS ?=

# Many tests mostly wait, so two at a time take little more than half the time of one by one. No
# test may depend on another one, on its order, or on a port or a directory that others use.
BRAIDMQ_TEST_PROCESSES ?= 2
AT_ONCE := --numprocesses $(BRAIDMQ_TEST_PROCESSES) --dist worksteal

# How long the long runs take; the tests read these from the environment.
BRAIDMQ_FUZZ_SECONDS ?= 60
BRAIDMQ_FAULT_CYCLES ?= 100
BRAIDMQ_SOAK_SECONDS ?= 600
BRAIDMQ_SIM_SEEDS ?= 5000

.DEFAULT_GOAL := help
.PHONY: help run test style types cover conformance bench fuzz faults soak golden clean

help: ## list the verbs
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 13

run: $(VENV)/.installed ## start the broker on ./data (ARGS="--listen ..." adds flags)
	$(BIN)/braidmq serve --data ./data $(ARGS)

test: $(VENV)/.installed-dev $(VENV)/.installed-interop ## run all tests (ARGS="-k name" selects)
	$(BIN)/pytest $(AT_ONCE) $(ARGS)

style: $(VENV)/.installed-dev ## lint, formatting, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.installed-dev ## mypy, strict, on the packages and the tests
	$(BIN)/mypy
	$(BIN)/mypy tests

cover: $(VENV)/.installed-dev $(VENV)/.installed-interop ## run all tests with branch coverage
	$(BIN)/pytest $(AT_ONCE) --cov --cov-report=term $(ARGS)

conformance: export BRAIDMQ_CONFORMANCE_TABLE := 1
conformance: $(VENV)/.installed-dev ## hold MQTT to every normative statement and list the tests of each
	$(BIN)/pytest tests/conformance $(ARGS)

bench: $(VENV)/.installed ## every scenario on ours and its peers (ARGS="--help": more)
	$(BIN)/python -m braidmq.benchmarks $(ARGS)

fuzz: export BRAIDMQ_FUZZ_SECONDS := $(BRAIDMQ_FUZZ_SECONDS)
fuzz: $(VENV)/.installed-dev ## feed the parsers garbage for BRAIDMQ_FUZZ_SECONDS each
	@echo "fuzz: $(BRAIDMQ_FUZZ_SECONDS) seconds for each target"
	$(BIN)/pytest tests/fuzz --durations=0 --timeout=0 $(ARGS)

faults: export BRAIDMQ_FAULT_CYCLES := $(BRAIDMQ_FAULT_CYCLES)
faults: export BRAIDMQ_SIM_SEEDS := $(BRAIDMQ_SIM_SEEDS)
faults: $(VENV)/.installed-dev ## kill and break the broker BRAIDMQ_FAULT_CYCLES times, simulate BRAIDMQ_SIM_SEEDS
	@echo "faults: $(BRAIDMQ_FAULT_CYCLES) cycles for each scenario; the time of each is listed at the end"
	$(BIN)/pytest tests/faults tests/sim --durations=20 --timeout=0 $(ARGS)

soak: export BRAIDMQ_SOAK_SECONDS := $(BRAIDMQ_SOAK_SECONDS)
soak: $(VENV)/.installed-dev ## keep the broker under load for BRAIDMQ_SOAK_SECONDS
	@echo "soak: $(BRAIDMQ_SOAK_SECONDS) seconds for each scenario"
	$(BIN)/pytest tests/soak --durations=0 --timeout=0 $(ARGS)

golden: $(VENV)/.installed-dev ## write tests/data/format-N, before the format changes
	$(BIN)/python -m tests.unit.storage.make_golden

clean: ## remove the environment and what tools left behind (keeps ./data)
	rm -rf $(VENV) .venv-tools build dist *.egg-info .coverage .coverage.* htmlcov
	rm -rf tests/interop/node/node_modules
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What runs the broker: the core, uvloop and password hashing. Fast, no test tools.
$(VENV)/.installed: pyproject.toml | $(VENV)/.created
	$(PIP) --editable '.[server]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.created
	$(PIP) --editable '.[dev]'
	@rm -rf $(VENV)/lib/python3*/site-packages/tests # gmqtt's own tests: they would hide ours
	@touch $@ $(VENV)/.installed

# The clients of MQTT and STOMP that are no Python packages, and a browser, as far as we may.
$(VENV)/.installed-interop: tests/interop/install tests/interop/node/package-lock.json | $(VENV)/.created
	@tests/interop/install
	@touch $@

# Debian splits ensurepip out of python3, and `-m venv` then leaves half an environment behind.
# So try, in order: venv; python3-venv from apt-get when we may; virtualenv, installed beside the
# checkout rather than into the user's home; and else say exactly what is missing.
$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "$(PYTHON) not found: run 'apt-get install python3 python3-venv' as root" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "BraidMQ needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1);" \
	    "name another with 'make PYTHON=python3.12 ...'" >&2; exit 1; }
	@new() { rm -rf $(VENV); "$$@" $(VENV) >/dev/null 2>&1 && $(BIN)/python -m pip --version >/dev/null 2>&1; }; \
	apt() { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  echo "python3-venv is missing: installing it by apt-get" >&2 && \
	  { apt-get update --quiet || true; } && \
	  DEBIAN_FRONTEND=noninteractive apt-get install --quiet --yes python3-venv; }; \
	tool() { $(PYTHON) -m pip --disable-pip-version-check install --quiet --target .venv-tools virtualenv >/dev/null 2>&1; }; \
	$(BIN)/python -m pip --version >/dev/null 2>&1 || \
	new $(PYTHON) -m venv || \
	{ apt >&2 && new $(PYTHON) -m venv; } || \
	new virtualenv --python $(PYTHON) || \
	{ tool && new env PYTHONPATH=.venv-tools $(PYTHON) -m virtualenv; } || { \
	  rm -rf $(VENV); \
	  echo "cannot make $(VENV): run 'apt-get install python3-venv' as root, then make again" >&2; exit 1; }
	@touch $@
