# Every target sets up what it needs: Python 3.11 or newer, git and make are enough.
#   make demo    raw taxi trips to a served, reversible prediction (examples/taxi)
#   make up      the console on what `make demo` left behind: http://127.0.0.1:8000
#   make test    the test suite; what was skipped, and why, is listed at the end.  ARGS="-k clock" goes to pytest
#   make check   formatting, lint, types, import contracts
#   make bench   the speed measurements of DESIGN §6.  ARGS goes to benchmarks/run.py
#   make bench-features   the feature store beside Feast and hand-written floors; Feast in an environment of its own
#   make bench-steps   the overhead of a step beside Metaflow and `airflow dags test`, in environments of their own
#   make docs    the documentation site, in docs/_site
#   make env     only the environment, in .venv
#   make format  rewrite the sources as `make check` wants them
#   make lock    resolve pyproject.toml into the lock files again (UPGRADE=--upgrade for the newest of everything)

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
UV := $(BIN)/uv
# One more than there are cores: tests wait for servers, disks and children.
WORKERS = $(shell $(BIN)/python -c "import os; print(min(4, (os.cpu_count() or 1) + 1))")
INSTALL_HEADWAY := $(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .

.PHONY: help demo up docs test check bench bench-features bench-steps env format lock clean

help:
	@sed -n 's/^#   //p' Makefile

demo: .venv/.runtime
	@$(BIN)/python examples/taxi/demo.py $(ARGS)

up: .venv/.runtime
	@test -d .demo/trips || { echo "nothing to look at yet: run \`make demo\` first" >&2; exit 1; }
	@cd .demo/trips && ../../$(BIN)/headway up $(ARGS)

docs: .venv/.dev
	@$(BIN)/python docs/generate.py --check
	@$(BIN)/sphinx-build --quiet --fail-on-warning --keep-going -b html docs docs/_site
	@echo "docs/_site/index.html"

# The tests' processes write no bytecode (projects change within a second), so they should find it. Files go to the
# workers in their order, which ends with the shortest ones; by their number of tests it would end with the longest.
test: .venv/.dev
	@$(BIN)/python -m compileall -q src
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: .venv/.dev
	@$(BIN)/python benchmarks/run.py $(ARGS)

bench-features: .venv/.dev
	@$(BIN)/python benchmarks/features.py $(ARGS)

bench-steps: .venv/.dev
	@$(BIN)/python benchmarks/run.py steps $(ARGS)

env: .venv/.dev

format: .venv/.dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The lock files agree with each other because each is resolved within requirements-dev.txt.
LOCK := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: .venv/.uv
	$(LOCK) $(UPGRADE) pyproject.toml --extra dev --no-emit-package headway --output-file requirements-dev.txt
	$(LOCK) $(UPGRADE) pyproject.toml --extra lightgbm -c requirements-dev.txt --output-file requirements.txt
	$(LOCK) $(UPGRADE) requirements-bootstrap.in -c requirements-dev.txt --output-file requirements-bootstrap.txt
	for peer in airflow evidently feast metaflow; do \
		$(LOCK) $(UPGRADE) benchmarks/peers/requirements-$$peer.in \
			--output-file benchmarks/peers/requirements-$$peer.txt; done

# Stamps: a step is done again only when its lock file or pyproject.toml has changed.
# `make demo` on a clean machine needs no development tools; `make env` afterwards adds them to the same .venv.
.venv/.uv: requirements-bootstrap.txt
	@test -n "$(PYTHON)" || { echo "headway needs Python 3.11 or newer, and none was found; name one with PYTHON=…" >&2; exit 1; }
	@echo "setting up .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements-bootstrap.txt
	@touch $@

.venv/.runtime: .venv/.uv requirements.txt pyproject.toml
	@$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements.txt
	@$(INSTALL_HEADWAY)
	@touch $@

.venv/.dev: .venv/.uv requirements-dev.txt pyproject.toml
	@$(UV) pip sync --quiet --compile-bytecode --python $(BIN)/python --require-hashes requirements-bootstrap.txt requirements-dev.txt
	@$(INSTALL_HEADWAY)
	@touch $@ .venv/.runtime
