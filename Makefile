# Two commands: `make serve` and `make test`. Each sets up what it needs; nothing is installed outside .venv,
# except that `make test` asks the system's package manager for Chromium, PostgreSQL and nginx when they are missing.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
HOST   ?= 127.0.0.1
PORT   ?= 8000
# One part of constraints.txt, by its heading; --no-deps, as every part is complete (tests/test_setup.py).
part    = awk -v heading='\# $(1)' '/^\# /{on = index($$0, heading) == 1} on' constraints.txt > $(VENV)/part.txt
INSTALL = $(BIN)/pip install -q --no-deps -r $(VENV)/part.txt

.DEFAULT_GOAL := help
.PHONY: help serve test compiled ray test-ray test-newest test-trainers lint bench attack accuracy crossings setup system clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

serve: $(VENV)/.serve compiled ## set up and serve the whole product on http://127.0.0.1:8000
	$(BIN)/fitproof serve --host $(HOST) --port $(PORT)

# Two at a time, whole files, in their order: with three, two processors are never idle, and yet the run takes as long and
# servers shed what tests ask of them. The browser tests come last, because Playwright leaves an event loop running.
test: $(VENV)/.test system compiled ## set up and run every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

# Bytecode of our own modules, also where the environment forbids Python to write it when it imports: without it each
# program that starts (the command, a worker, a dry run) compiles 250 files first.
compiled: $(VENV)/.serve
	@$(BIN)/python -m compileall -q app planner

test-ray: $(VENV)/.test $(VENV)-ray/.done ## run the engine tests against a real Ray cluster on loopback (its own environment)
	$(BIN)/python -m pytest tests/ray

# Python's newest release here, without torch: what plans and serves.
PYENV   = $${PYENV_ROOT:-$$HOME/.pyenv}/versions
NEWEST ?= $(shell for each in $$(ls -r $(PYENV)/3.1[2-9]*/bin/python 2>/dev/null) python3.15 python3.14 python3.13 \
  python3.12; do $$each -c pass 2>/dev/null && echo $$each && break; done)

test-newest: $(VENV)-newest/.done ## the planner's and the API's tests on the newest Python here, without torch
	timeout 1200 $(VENV)-newest/bin/python -m pytest tests/planner/request tests/planner/catalog tests/app/test_hub.py \
	  tests/app/test_plans_api.py tests/app/test_settings.py tests/app/test_strictjson.py tests/compute/test_shares.py

test-trainers: $(VENV)/.test ## install each trainer of tests/gallery and run its program on virtual cards
	$(BIN)/python -m tests.gallery $(VENV)-trainers

lint: $(VENV)/.test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/.test compiled ## print ratios: plan, cold start, requests per second, matrix, pages
	$(BIN)/python -m tests.bench

attack: $(VENV)/.test ## 100,000 hostile requests beside an ordinary client, on loopback
	$(BIN)/python -m tests.attack

accuracy: $(VENV)/.test ## recompute formula against dry run and against the published measurements
	$(BIN)/python -m planner.evidence.accuracy_report
	$(MAKE) -j2 .recorded-tables.settings .recorded-tables.mixture_settings .recorded-tables.latest_settings \
	  .recorded-tables.crossing_settings .recorded-tables.optimizer_settings .recorded-tables.option_settings \
	  .recorded-tables.adapter_settings .recorded-tables.half_type_settings .recorded-crossings.drawn
	mv .recorded-tables.settings tests/planner/step/tables/recorded/families.jsonl
	mv .recorded-tables.mixture_settings tests/planner/step/tables/recorded/mixtures.jsonl
	mv .recorded-tables.latest_settings tests/planner/step/tables/recorded/latest.jsonl
	mv .recorded-tables.crossing_settings tests/planner/step/tables/recorded/crossings.jsonl
	mv .recorded-tables.optimizer_settings tests/planner/step/tables/recorded/optimizers.jsonl
	mv .recorded-tables.option_settings tests/planner/step/tables/recorded/options.jsonl
	mv .recorded-tables.adapter_settings tests/planner/step/tables/recorded/adapters.jsonl
	mv .recorded-tables.half_type_settings tests/planner/step/tables/recorded/half_types.jsonl
	mv .recorded-crossings.drawn tests/planner/step/tables/recorded/drawn.jsonl
	$(BIN)/python -m tests.planner.step.compared
	$(BIN)/python -m pytest tests/planner/step tests/planner/evidence

# Dry runs take one core each, so two tables are recorded at a time.
.recorded-%: FORCE
	$(BIN)/python -m tests.planner.step.$* | $(BIN)/python -m planner.probe.recording.agreement > $@.part
	mv $@.part $@

FORCE:

# DRAW="--seed 7 --count 100 --minutes 60 --keep"; today's own 60 otherwise.
crossings: $(VENV)/.test ## formula against dry run on settings drawn at random, by today's date
	$(BIN)/python -m tests.planner.step.crossings $(DRAW)

setup: $(VENV)/.test ## everything but the run

ray: $(VENV)-ray/.done ## the environment of the Ray cluster

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Fitproof needs Python 3.11 or newer; say make PYTHON=python3.12"'
	$(PYTHON) -m venv $(VENV)
	$(call part,pip) && $(INSTALL)

$(VENV)/.serve: $(VENV)/bin/python pyproject.toml constraints.txt
	$(call part,serve) && $(INSTALL)
	# hqq comes as source: its build imports torch and would try CUDA.
	$(call part,after torch) && DISABLE_CUDA=1 $(INSTALL) --no-build-isolation
	# The virtual card and the allocator's play are compiled; a system without a compiler gets one as a wheel.
	command -v c++ >/dev/null || { $(call part,without a C++ compiler) && $(INSTALL); }
	$(BIN)/pip install -q --no-deps -e .
	$(BIN)/python -m planner.native_library
	@touch $@

$(VENV)/.test: $(VENV)/.serve
	$(call part,test) && $(INSTALL)
	# The virtual card is built with either compiler.
	$(call part,without a C++ compiler) && $(INSTALL)
	@touch $@

# An existing cluster has an environment of its own, so this one has, too.
$(VENV)-ray/.done:
	$(PYTHON) -m venv $(VENV)-ray
	$(VENV)-ray/bin/pip install -q 'ray[default]==2.60.0'
	@touch $@

$(VENV)-newest/.done: pyproject.toml constraints.txt
	$(or $(NEWEST),$(PYTHON)) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/pip install -q -c constraints.txt . pytest pytest-timeout hypothesis
	@touch $@

# Real components where a user has them: the browser tests need Chromium, the service tests need PostgreSQL and nginx.
system:
	@sh tests/system.sh

clean: ## remove what the other commands made
	rm -rf $(VENV) $(VENV)-ray $(VENV)-newest $(VENV)-trainers build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
