# Everything runs in .venv, which is made on first use and again when pyproject.toml changes.
# Variables: PYTHON=python3.12 (where uv is not installed), JOBS=4 (test processes),
# NOTEBOOKS=notebooks/4_clusters.py (those that are run).

PYTHON ?= python3
JOBS ?= 2
NOTEBOOKS ?= $(wildcard notebooks/*.py)
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.ready
PYTEST := $(PY) -m pytest -n $(JOBS) --dist worksteal --durations=10

# A ban on bytecode would make every start of Python, and so every timed test, compile anew.
unexport PYTHONDONTWRITEBYTECODE

# An environment counts only where it was finished: a moved or copied one still imports the old
# place, and one whose interpreter is gone runs nothing.
$(shell test -x $(PY) && test "$$(cat $(STAMP) 2>/dev/null)" = "$$(pwd -P)" || rm -f $(STAMP))

.DELETE_ON_ERROR:
.PHONY: help demo test test-all lint format docs bench notebooks clean

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 12

demo: $(STAMP) ## set up, then reduce a simulated night and check it against its truth
	$(VENV)/bin/masterframe demo

test: $(STAMP) ## set up, then run the quick tests; needs no system package
	$(PYTEST) -m 'not slow'

test-all: $(STAMP) ## all tests; MASTERFRAME_REQUIRE=all lets none be skipped
	$(PYTEST) --hypothesis-profile=thorough

lint: $(STAMP) ## style, types, spelling
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m codespell_lib

format: $(STAMP) ## mend what can be mended by itself
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

docs: $(STAMP) ## build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet

bench: $(STAMP) ## compare with the other programs that are installed; takes hours, AXES=base minutes
	$(PY) benchmarks/suite.py $(AXES)
ifndef AXES
	$(PY) benchmarks/growth.py
	$(PY) benchmarks/products.py
	$(PY) benchmarks/workers.py
endif

notebooks: $(STAMP) ## run the notebooks; keep the outputs of those that found all they show
	@set -e; new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; for page in $(NOTEBOOKS); do \
	  kept=$${page%.py}.ipynb; \
	  $(PY) -m jupytext --quiet --to ipynb --execute --output "$$new/page.ipynb" $$page; \
	  if missing=$$(grep -oE '^ *"(no Slurm here|[A-Za-z]+ is not installed)' "$$new/page.ipynb"); then \
	    echo $$kept is left as it is: $$(echo "$$missing" | tr -d '"'); \
	  else mv "$$new/page.ipynb" $$kept; echo $$kept is made anew; fi; \
	done

clean: ## remove all that make and the tests made, .venv included
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is the last step. Without it an environment may be half made and is begun anew; with
# an old one it is brought up to date in place.
$(STAMP): pyproject.toml
	@test -e $@ || rm -rf $(VENV)
	@rm -f $@
	@set -e; if command -v uv >/dev/null; then \
	  echo 'Setting up $(VENV) with uv'; \
	  test -x $(PY) || uv venv --quiet --python '>=3.11' $(VENV); \
	  uv pip install --quiet --compile-bytecode --python $(PY) --editable '.[dev,slurm,docs,explore]'; \
	else \
	  echo 'Setting up $(VENV) with pip; this takes some minutes'; \
	  $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    found=$$($(PYTHON) --version 2>/dev/null) || found=missing; \
	    echo "masterframe needs Python 3.11 or newer, and $(PYTHON) is $$found." >&2; \
	    echo 'Name another with make PYTHON=python3.12, or install uv, which brings one.' >&2; \
	    exit 1; }; \
	  $(PYTHON) -m venv $(VENV); \
	  $(PY) -m pip install --quiet --quiet --editable '.[dev,slurm,docs,explore]'; \
	fi
	@pwd -P >$@
