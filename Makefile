# The project's few verbs. Every target implies `setup`, which does nothing when nothing changed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.stamp
WEB := src/insitu/web
GUARD := src/insitu/debug/libinsitu-guard.so
BLOCKS := src/insitu/debug/libinsitu-blocks.so
ALLOCATOR := src/insitu/debug/allocator
PRELOADED_FLAGS := -O2 -g -std=gnu11 -Wall -Wextra -Wno-unused-parameter -fPIC -shared -fvisibility=hidden -fno-builtin
WEB_SOURCES := $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)

# What Debian packages each part needs is said in one place: tools/debian-packages.
.PHONY: setup demo test test-unit test-web bench fuzz lint clean test-custom-kernels test-kernels

# What shares a guest or a module's fixtures runs in one process, the longest first: see tests/conftest.py.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

setup: $(STAMP)/system $(STAMP)/python $(WEB)/dist/.built $(GUARD) $(BLOCKS)

$(STAMP)/system: tools/debian-packages
	@mkdir -p $(STAMP)
	tools/debian-packages --install
	@touch $@

$(STAMP)/python: pyproject.toml | $(STAMP)/system
	@mkdir -p $(STAMP)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(WEB)/dist/.built: $(WEB_SOURCES) | $(STAMP)/system
	cd $(WEB) && npm ci --no-audit --no-fund --silent && npm run --silent build
	@touch $@

# What `insitu guard` and `insitu leaks --track` preload: x86-64 only; elsewhere the commands say so.
$(GUARD): $(filter-out $(ALLOCATOR)/blocks.%,$(wildcard $(ALLOCATOR)/*.[ch]))
$(BLOCKS): $(wildcard $(ALLOCATOR)/blocks.[ch] $(ALLOCATOR)/call_origin.[ch])
$(GUARD) $(BLOCKS): | $(STAMP)/system
	@if [ "$$(uname -m)" = x86_64 ]; then \
		command -v cc >/dev/null || { echo "make: no C compiler for insitu guard and leaks: apt-get install build-essential" >&2; exit 1; }; \
		cc $(PRELOADED_FLAGS) -o $@.new $(filter %.c,$^) && mv $@.new $@; \
	fi

demo: setup
	$(BIN)/python tools/demo.py

# Guests see this tree read-only: what is not compiled would be compiled at each start of insitu there.
test: setup test-web
	$(BIN)/python -m compileall -q src
	$(PYTEST) --durations 25

# The inner loop: no privilege, no network, no guest.
test-unit: setup test-web
	$(PYTEST) tests/unit

test-web: setup
	cd $(WEB) && npm run --silent test

bench: setup
	$(BIN)/python -m bench

# make fuzz SECONDS=30 TARGET=elf: docs/fuzzing.md
fuzz: setup
	$(BIN)/python -m fuzz $(addprefix --seconds ,$(SECONDS)) $(addprefix --target ,$(TARGET)) $(addprefix --seed ,$(SEED))

lint: setup
	$(BIN)/ruff check src tests bench tools fuzz
	$(BIN)/ruff format --check src tests bench tools fuzz
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd $(WEB) && npm run --silent lint

test-custom-kernels: setup
	$(BIN)/python -m pytest tests/custom_kernels --timeout 5400

test-kernels: setup
	INSITU_ALL_KERNELS=1 $(PYTEST) $$(grep -lE "LONG_TESTS|INSITU_ALL_KERNELS" tests/lab/test_*.py)

clean:
	rm -rf $(VENV) $(WEB)/dist $(WEB)/node_modules $(GUARD) $(BLOCKS) build demo
