# Everything sets itself up: what it needs is a Python from 3.11 on, and make.
#
#   make test ARGS=...    what stands in ARGS goes to the command of the target
#   make test PYTHON=...  the interpreter to make .venv with

VENV := .venv
BIN := $(VENV)/bin
ARGS :=
PYTHON :=

# Most tests wait for something most of the time: some processes side by side take a third of the time of one.
SIDE_BY_SIDE := -n 3 --dist loadfile

# What an installation depends on; the kernels are compiled as it is made.
SOURCES := pyproject.toml setup.py $(wildcard saq/_speedups/*.py)
INSTALL := $(BIN)/python -m pip install -qq --disable-pip-version-check --editable

# No .venv, or one whose interpreter is gone: everything in it has to be made again.
NEW := $(shell test -x $(BIN)/python || echo new-venv)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help venv demo test lint types unit compat bench docs clean new-venv

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(VENV)/.dev ## make .venv, or bring it up to date

demo: $(VENV)/.all ## watch it work: a server, a worker, the web page, real jobs (ARGS=--once ends by itself)
	@$(BIN)/saq demo $(ARGS)

test: lint types unit ## lint, type check and all tests

lint: $(VENV)/.dev ## ruff: rules and format
	@echo "== ruff check"
	@$(BIN)/ruff check
	@echo "== ruff format"
	@$(BIN)/ruff format --check

types: $(VENV)/.dev ## mypy
	@echo "== mypy"
	@$(BIN)/mypy

unit: $(VENV)/.dev ## the tests alone (ARGS="-k cron"; in one process: ARGS="-n 0 -k cron")
	@echo "== pytest"
	@$(BIN)/python -m pytest $(SIDE_BY_SIDE) $(ARGS)

compat: $(VENV)/.dev ## the tests on other servers, loops and versions of redis-py, through tox
	@$(BIN)/tox run $(ARGS)

bench: $(VENV)/.dev ## the kernels, compiled against uncompiled (the queue as a whole: python -m benchmarks)
	@$(BIN)/python -m pytest -q -o testpaths=benchmarks/micro -o python_files='bench_*.py' $(ARGS)
	@$(BIN)/python -m benchmarks.micro.ratio

docs: $(VENV)/.dev ## rewrite what the documentation takes from the code
	@$(BIN)/python docs/generate.py

clean: ## remove all that was made, .venv included
	@echo "== removing .venv and all that was built"
	@rm -rf $(VENV) .tox build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
	@find $(wildcard saq tests benchmarks docs examples) \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +

# The stamps say what is installed: .all is what a user has, .dev is that and the tools.
$(VENV)/.all: $(SOURCES) $(NEW)
	@echo "== installing saq[all] into $(VENV)"
	@$(INSTALL) '.[all]'
	@touch $@

$(VENV)/.dev: $(SOURCES) $(NEW)
	@echo "== installing saq[all,dev] into $(VENV)"
	@$(INSTALL) '.[all,dev]'
	@touch $(VENV)/.all $@

new-venv:
	@for python in $(or $(PYTHON),python3 python3.14 python3.13 python3.12 python3.11 python); do \
		"$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
		echo "== making $(VENV) with $$("$$python" --version) ($$python)"; \
		rm -rf $(VENV); \
		"$$python" -m venv $(VENV) && exit; \
		rm -rf $(VENV); \
		echo "$$python cannot make a virtual environment. On Debian and Ubuntu: apt install python3-venv" >&2; \
		exit 1; \
	done; \
	echo "No Python from 3.11 on was found as $(or $(PYTHON),python3 or python3.11 to python3.14)." \
		"Install one, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
