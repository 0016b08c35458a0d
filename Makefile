# The two commands of the README are `make demo` and `make test`; each sets up what it needs.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
ROOMS := engine ha reconcile ibsim client

.PHONY: help install install-dev tools demo test test-all lint format fuzz fuzz-api chaos mutation bench model schema clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

# A stamp per set of packages: made anew when pyproject.toml or the constraints change, or Python did.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "Python's venv module is missing. This mends it: sudo apt-get install -y python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[local]'
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "installing the tools for tests ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

install: $(VENV)/.installed ## make .venv with the command `adapter` in it
install-dev: $(VENV)/.installed-dev ## the same, with the tools for tests

# The one part of the tests that neither a wheel nor Debian brings. Go builds it in half a minute.
TOXIPROXY := github.com/Shopify/toxiproxy/v2/cmd/server@v2.12.0

.tools/toxiproxy-server:
	@command -v go >/dev/null || { echo "Toxiproxy is built with Go 1.23 or newer, and there is no Go here: get it from https://go.dev/dl, or put a toxiproxy-server on PATH"; exit 1; }
	@mkdir -p .tools && GOBIN=$(CURDIR)/.tools GOFLAGS=-modcacherw go install $(TOXIPROXY) && mv .tools/server $@

tools: .tools/toxiproxy-server ## Toxiproxy for the chaos tests in .tools, built with Go

demo: $(VENV)/.installed ## orders flow, two leaders are killed, a judge counts at the broker
	@$(BIN)/adapter demo $(DEMO)

# Tests with real parts wait for them most of the time: what only computes runs beside them, behind everything else, and when that
# is done the cluster's tests do (tests/beside.py).
BESIDE := tests/unit tests/simulation tests/mutation $(wildcard tests/integration/test_sim_*.py tests/integration/test_table_*.py) \
  tests/integration/test_known_mistakes.py tests/integration/test_model.py
WAIT := $(filter-out $(BESIDE),$(wildcard tests/integration/test_*.py))
test: $(VENV)/.installed-dev ## unit, integration and chaos tests with real parts (TESTS=tests/unit for a part of them)
ifdef TESTS
	@$(BIN)/python -m pytest $(TESTS)
else
	@said=$$(mktemp) && trap 'kill $$beside 2>/dev/null; rm -f "$$said"' EXIT && trap 'exit 130' INT TERM; \
	$(BIN)/python -m tests.beside $(BESIDE) --then tests/chaos >"$$said" 2>&1 & beside=$$!; \
	$(BIN)/python -m pytest $(WAIT); waited=$$?; \
	echo; echo "and beside them, what only computes and the cluster:"; wait $$beside; other=$$?; cat "$$said"; exit $$((waited | other))
endif

test-all: $(VENV)/.installed-dev ## the same, with every case of what one case shows already
	@$(BIN)/python -m pytest -m ""

lint: $(VENV)/.installed-dev ## ruff, mypy, the arrows between rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.installed-dev ## let ruff write
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

fuzz: $(VENV)/.installed-dev ## a million mutated messages for the stand-in gateway (FUZZ="--inputs 50000 --seed 2")
	@$(BIN)/python -m tests.unit.ibsim_fuzzer $(FUZZ)

fuzz-api: $(VENV)/.installed-dev ## every field of every path over HTTP, longer than in `make test` (EXAMPLES=200 SEED=2)
	@FUZZ_EXAMPLES=$(or $(EXAMPLES),200) FUZZ_SEED=$(or $(SEED),2) $(BIN)/python -m pytest tests/integration/test_fuzz_api.py

CHAOS_FLAGS := $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(FORM),--form $(FORM)) \
  $(if $(ONLY),--only $(ONLY)) $(if $(OUT),--out $(OUT)) $(if $(REPLAY),--replay $(REPLAY)) $(if $(ROUND),--round $(ROUND))
chaos: $(VENV)/.installed-dev ## random faults under load, judged round by round, with a report (MINUTES=15 SEED=7 FORM=hosts)
	@$(BIN)/python -m tests.chaos $(CHAOS_FLAGS)

mutation: $(VENV)/.installed-dev ## switch each rule off in turn and see who notices (MUTATION="--rule R12", MUTATION="--judge" for the judge)
	@$(BIN)/python -m tests.mutation $(MUTATION)

bench: $(VENV)/.installed-dev ## measure; figures go to bench/results.json and into a table (KILLS=20 DOUBTS=5 TRIALS=5 QUIET=60)
	@$(BIN)/python -m bench.sim_speed
	@$(BIN)/python -m bench.failover --kills $(or $(KILLS),20) --switchovers $(or $(KILLS),20)
	@$(BIN)/python -m bench.doubts --kills $(or $(DOUBTS),5)
	@$(BIN)/python -m bench.cluster --trials $(or $(TRIALS),5) --away $(or $(QUIET),60) --idle $(or $(QUIET),60)
	@$(BIN)/python -m bench.orders accepted replica sent durable cancels takeover --seconds $(or $(QUIET),60) --trials $(or $(TRIALS),5)
	@$(BIN)/python -m bench.memory --results

schema: $(VENV)/.installed-dev ## write engine/migrations/schema.sql anew, from all migrations applied
	@$(BIN)/python -m tests.schema_tool --write

model: ## check the fencing protocol exhaustively with SPIN, and that each rule is missed (MODEL=--quick, MODEL=no_epoch)
	@docs/model/check.sh $(MODEL)

clean: ## remove .venv and caches
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
