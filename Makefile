# Needs only Python 3.10 to 3.14, make and a package index.
#
#   make demo     find a graph lottery ticket on CiteSeer and show what was won
#   make test     run all tests              PYTEST_ARGS="-k masks"
#   make lint     ruff, mypy, import-linter
#   make wheel    build the wheel, install it into an empty environment and use it there
#   make docs     build the documentation into site/
#   make clean    remove the environment, caches and the demo's files
#
# On Linux the package index's own torch brings gigabytes of CUDA libraries. To take a smaller
# CPU build, name an index of such builds; it is asked for torch alone:
#   make demo TORCH_INDEX_URL=https://...
# Options for every call of pip, such as another package index: PIP_ARGS="--index-url https://..."

PYTHON ?= python3 python3.14 python3.13 python3.12 python3.11 python3.10 python
VENV ?= .venv
PIP_ARGS ?=
TORCH_INDEX_URL ?=
PYTEST_ARGS ?=
DEMO_ARGS ?= --dataset citeseer --model gcn --hidden 512 \
	--edge-sparsity 0.3 --weight-sparsity 0.95 --method fastglt --preset default --seed 0 \
	--out ticket.safetensors --plot ticket.png --json result.json

# Threads that wait by spinning make a busy machine many times slower.
export OMP_WAIT_POLICY ?= passive

BIN := $(VENV)/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check $(PIP_ARGS) \
	--constraint constraints.txt
TORCH_INDEX = $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))

.DELETE_ON_ERROR:
.PHONY: demo test lint wheel docs clean

demo: $(VENV)/.installed
	$(BIN)/fastglt find $(DEMO_ARGS)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(BIN)/python
	$(BIN)/python tools/try_wheel.py --pip-args="$(PIP_ARGS)" --torch-args="$(TORCH_INDEX)"

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html"

clean:
	rm -rf $(VENV) build dist site src/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f ticket.safetensors ticket.png result.json

# The stamps make a second run skip pip.
$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools"
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing what builds the documentation"
	$(PIP_INSTALL) --editable ".[docs]"
	@touch $@

# torch comes first and alone, so that its build is chosen by TORCH_INDEX_URL and nothing else;
# the second call adds what it depends on.
$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing fastglt and its dependencies (minutes, the first time)"
	$(PIP_INSTALL) --no-deps $(TORCH_INDEX) torch
	$(PIP_INSTALL) --editable .
	@touch $@

# Python outside this range has no builds of the pinned versions. A half-made environment goes.
$(BIN)/python:
	@for python in $(PYTHON); do \
		"$$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 14))' \
			2>/dev/null || continue; \
		echo "Creating $(VENV) with $$python"; \
		"$$python" -m venv $(VENV) && exit 0; \
		rm -rf $(VENV); \
		echo "error: '$$python -m venv' failed (on Debian and Ubuntu: install python3-venv)" >&2; \
		exit 1; \
	done; \
	echo "error: Python 3.10 to 3.14 is needed and none of these is one: $(PYTHON)." >&2; \
	echo "Install it, or name it: make PYTHON=/path/to/python" >&2; \
	exit 1
