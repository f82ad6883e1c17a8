# make demo     set up once, then replay a year of flights through the whole loop
# make test     set up once, then run the tests
# make engines  the tests that need PostgreSQL, Redis and other engines; skips those not there
# make lint     style, types and the layer rule
# make clean    forget the environment
#
# PYTHON=python3.12   which Python (3.11 or newer) the environment is made from
# TORCH=auto          a build of torch for this machine's GPU instead of the one for the CPU
# ARGS='--weeks 52'   passed on to the demo or to pytest

VENV := .venv
BIN := $(VENV)/bin
STAMPS := $(wildcard $(VENV)/installed-*)

PYTHON ?= python3
TORCH ?= $(or $(patsubst $(VENV)/installed-%,%,$(firstword $(STAMPS))),cpu)
ARGS ?=
INSTALLED := $(VENV)/installed-$(TORCH)
ENGINES := postgres,redis,ray,dask

# Where a CPU wheel of torch lies on disk (PIP_FIND_LINKS is pip's own variable), take that one.
WHEELS := $(if $(filter cpu,$(TORCH)),$(wildcard $(addsuffix /torch-*.whl,$(PIP_FIND_LINKS))))
TORCH_FROM := $(if $(WHEELS),--find-links "$(PIP_FIND_LINKS)",--torch-backend $(TORCH)) \
    $(if $(filter-out $(INSTALLED),$(STAMPS)),--reinstall-package torch)

# Compiled once at installation, the packages start in half the time ever after.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test engines lint install clean

demo: install
	@$(BIN)/everfit demo $(ARGS)

test: install
	@$(BIN)/python -m pytest $(ARGS)

engines: export EVERFIT_LITERT ?= $(CURDIR)/$(VENV)/litert
engines: $(VENV)/engines-$(ENGINES)
	@$(BIN)/python -m pytest tests/engines $(ARGS)

lint: install
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; \
	    sys.exit(v < (3, 11) and f"everfit needs Python 3.11 or newer, this is {v[0]}.{v[1]}: make PYTHON=python3.12 ...")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
	    { rm -rf $(VENV); echo "this Python cannot make environments: install its venv package (Debian: apt install python3-venv)" >&2; exit 1; }
	@echo "installing into $(VENV), once ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet $(TORCH_FROM) --compile-bytecode \
	    -c constraints.txt -e '.[flights,dev]'
	@rm -f $(VENV)/installed-*
	@touch $@

# The same environment with what the engines' tests need besides.
$(VENV)/engines-$(ENGINES): $(INSTALLED)
	@VIRTUAL_ENV="$(CURDIR)/$(VENV)" $(BIN)/uv pip install --quiet $(TORCH_FROM) --compile-bytecode \
	    -c constraints.txt -e '.[flights,dev,$(ENGINES)]'
	@rm -f $(VENV)/engines-*
	@touch $@

clean:
	rm -rf $(VENV)
