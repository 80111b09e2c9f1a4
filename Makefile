# make test | demo | lint | bench | venv | clean          (the first use of each sets up .venv)
#
#   PYTHON=python3.12      another interpreter (3.10 or newer; only at the first set-up)
#   PIP_FLAGS='...'        extra options for pip, e.g. an index with CPU builds of PyTorch
#   PYTEST_FLAGS='-k pose' extra options for pytest
#   STREAM=evening         the other stream of the demo
#   FEATURES=gradients     training-free features in the demo; without it, the shipped network

PYTHON       ?= $(firstword $(shell command -v python3.11 python3) python3)
VENV         ?= .venv
PIP_FLAGS    ?=
PYTEST_FLAGS ?=
STREAM       ?= day
FEATURES     ?= network

BIN    := $(VENV)/bin
STAMPS := $(VENV)/stamps
PIP    := $(BIN)/python -m pip --disable-pip-version-check

# Set by the ROS wheels for their own environment; inherited, it breaks every other environment.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: venv test demo lint bench clean
.DELETE_ON_ERROR:

venv: $(STAMPS)/package $(STAMPS)/interfaces

# On busy cores the threads of one small computation wait for each other most of the time.
test: export OMP_NUM_THREADS ?= 1
test: venv
	$(BIN)/python -m pytest -n 2 --dist loadgroup $(PYTEST_FLAGS)

demo: venv
	$(BIN)/python -m pixloc_ros.demo --stream $(STREAM) extractor.kind=$(FEATURES)

lint: venv
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: venv
	$(BIN)/python -m benchmarks.lm_iteration --write
	$(BIN)/python -m benchmarks.query_cost --write --threads 1
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.ros_overhead --write
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.image_sets --write

clean:
	rm -rf $(VENV) build install log out

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	  { echo "$(PYTHON) is too old or missing: python 3.10 or newer is needed (PYTHON=...)"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(STAMPS)/requirements: requirements.txt requirements-build.txt requirements-dev.txt | $(BIN)/python
	@echo "installing what requirements*.txt name, 1.8 GB: some minutes, once"
	$(PIP) install --quiet $(PIP_FLAGS) $(addprefix -r ,$^)
	@mkdir -p $(@D) && touch $@

$(STAMPS)/package: setup.py setup.cfg $(STAMPS)/requirements
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

INTERFACES := $(wildcard msg/*.msg srv/*.srv) CMakeLists.txt package.xml pixloc_ros/__init__.py \
              $(shell find interfaces cmake -type f) tools/build_interfaces.py

$(STAMPS)/interfaces: $(INTERFACES) $(STAMPS)/requirements | $(STAMPS)/package
	$(BIN)/python tools/build_interfaces.py
	@touch $@
