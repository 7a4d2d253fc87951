# Works on a fresh machine with python3 (3.11 or newer) and make: every target sets up what it needs.
#   make demo    train a net that dies and a healthy one under watch; check the answers
#   make test    the tests                    (PYTEST_ARGS="-k record -x" to choose)
#   make check   formatting, lint, types, architecture, docs
#   make bench   the benchmarks; they write bench/results/*.md
#   make docs    the documentation into site/

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?= -n auto
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
export PYTHONDONTWRITEBYTECODE := 1
export HF_HUB_OFFLINE := 1
# The docs theme prints an advertisement for its successor; it is not about our pages.
export NO_MKDOCS_2_WARNING := 1

TEST_READY := $(VENV)/.ready-test
DEV_READY := $(VENV)/.ready-dev

.PHONY: demo test check bench docs clean
.DEFAULT_GOAL := test

demo: $(TEST_READY)
	@$(BIN)/python tools/demo.py

test: $(TEST_READY)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

check: $(DEV_READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/mkdocs build --strict --quiet

bench: $(TEST_READY)
	@set -e; for script in $(sort $(wildcard bench/*.py)); do echo "== $$script"; $(BIN)/python $$script; done

docs: $(DEV_READY)
	$(BIN)/mkdocs build --strict

clean:
	rm -rf site build dist demo *.rec

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; install Python 3.11 or newer, or set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: defib needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) -V 2>&1); set PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "make: $(PYTHON) cannot create a virtual environment; install its venv module (Debian: python3-venv)" >&2; rm -rf $(VENV); exit 1; }

$(TEST_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing defib and what its tests need into $(VENV) (once; some minutes) ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[test]"
	@touch $@

$(DEV_READY): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing defib and the developers' tools into $(VENV) (once; some minutes) ..."
	@$(BIN)/python -m pip install --quiet -c constraints.txt -e ".[dev]"
	@touch $@ $(TEST_READY)
