# Samla. `make help` lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup servers demo test up down status check fix bench lock clean

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make demo EXIT=1         leaves at its end; ALL=1 takes all households"
	@echo "  make test ONLY=path      runs a part;       make bench ONLY=prefix likewise"
	@echo "  make bench SOAK=30       watches the door's memory under load for so many minutes"

$(READY): requirements-dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Samla needs Python 3.11 or later; say which with PYTHON=..."; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "Python's venv is missing: apt-get install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(READY)

setup: $(READY) servers ## Sets up what is missing: virtual environment, RabbitMQ, MongoDB

servers: $(READY)
	@$(BIN)/python -m shared.local setup

demo: setup ## Streams a year of a real shop's purchases through the suite and shows what came of it
	@$(BIN)/python -m services.console.demo $(if $(ALL),--all) $(if $(EXIT),--exit)

test: setup ## Runs every test against real servers of its own
	$(BIN)/python -m pytest $(ONLY)

up: setup ## Starts the suite in the background
	@$(BIN)/python -m shared.local up

down: $(READY) ## Ends the suite; the data stays
	@$(BIN)/python -m shared.local down

status: $(READY) ## Shows how the suite is
	@$(BIN)/python -m shared.local status

check: $(READY) ## Formatter, linter, types, imports
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy contracts shared services/*/domain
	$(BIN)/lint-imports --no-cache

fix: $(READY) ## Formats, and mends what the linter can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: setup ## Measures, as a table and as .samla/bench.json
	@$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY)) $(if $(SOAK),--soak $(SOAK))

lock: $(READY) ## Writes the lock files anew from pyproject.toml
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 pyproject.toml -o requirements.lock
	$(BIN)/uv pip compile --quiet --generate-hashes --no-header --no-emit-index-url --no-annotate --python-version 3.11 --all-extras pyproject.toml -o requirements-dev.lock

clean: ## Removes the virtual environment and caches; data in SAMLA_HOME stays
	rm -rf $(VENV) *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
