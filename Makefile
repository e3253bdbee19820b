PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
# Two workers on two cores; more only compete for the servers that the tests start. Each has its half of the tests, and takes from
# the other's when it is through: so a server that one folder needs is started once, and not by both.
WORKERS ?= 2

# Tests and benchmarks start the program some thousand times, as one that is installed: with its bytecode at hand.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test soak lint format bench clean lock

$(VENV)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/.ready
	@examples/demo.sh

test: $(VENV)/.ready lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --durations 25

# As long as wished: simulated worlds for SECONDS, real runs killed KILLS times, three rivals for MINUTES, every rule broken on purpose.
SECONDS ?= 600
KILLS ?= 1000
MINUTES ?= 10
soak: $(VENV)/.ready
	$(BIN)/python -m reconciler.simulation --seconds $(SECONDS)
	$(BIN)/python -m tests.soak.kills $(KILLS)
	$(BIN)/python -m tests.soak.rivals $(MINUTES)
	$(BIN)/python -m pytest tests/invariants/test_mutations.py tests/sandbox/neon/test_neon_clones.py \
		tests/providers/test_neon_source.py -m soak -n $(WORKERS)

lint: $(VENV)/.ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.ready
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/branching.py
	$(BIN)/python benchmarks/neon.py

# What CI and the container install: versions and hashes of all that pyproject.toml asks for.
lock: $(VENV)/.ready
	$(BIN)/pip-compile --quiet --generate-hashes --all-extras --strip-extras --allow-unsafe --no-header \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean:
	-$(BIN)/reconcile sandbox down --purge
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
