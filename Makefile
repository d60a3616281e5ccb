# Everything a developer or CI runs. `make run` and `make test` need Python 3.11+, git and make, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Tests wait for processes half of their time, so more of them run at once than there are cores.
TESTERS ?= 4

.PHONY: run test test-agents test-slurm test-kubernetes check check-workflows faults bench docs dist sbom audit clean

run: $(VENV)/.run ## the whole story in a minute, on this repository's own fleet
	@$(BIN)/tsched demo

test: check ## all tests
	$(BIN)/python -m pytest -n $(TESTERS) --dist worksteal tests --ignore=tests/bench --ignore=tests/agents

test-agents: $(VENV)/.dev ## the real goose, Claude Code, codex and opencode (npm, 1.7 GB in .agents) over a local model
	$(BIN)/python -m pytest -rs tests/agents

test-slurm: $(VENV)/.dev ## runs as jobs of a real Slurm of one node; as root of a Debian machine: installs slurm-wlm and munge if missing
	@for name in munged slurmctld slurmd sbatch; do command -v $$name >/dev/null || missing=1; done; \
	if [ -n "$$missing" ]; then apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge; fi
	TSCHED_TEST_SLURM=1 $(BIN)/python -m pytest -rs tests/slurm

test-kubernetes: $(VENV)/.dev ## runs as Jobs of a real API server; its programs from PATH or TSCHED_TEST_KUBE_BIN (CONTRIBUTING.md)
	TSCHED_TEST_KUBE_BIN="$${TSCHED_TEST_KUBE_BIN:-.}" $(BIN)/python -m pytest -rs tests/kubernetes

check: $(VENV)/.dev
	$(BIN)/ruff check tsched tests
	$(BIN)/ruff format --check tsched tests
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/zizmor --offline --quiet .github action.yml
	$(BIN)/tsched validate .

check-workflows: $(VENV)/.dev ## the forge's workflows; actionlint has to be on PATH
	$(BIN)/zizmor --offline .github action.yml
	actionlint

docs: $(VENV)/.dev ## the reference pages that are made from the program
	$(BIN)/python -m tests.e2e.reference

faults: $(VENV)/.dev ## kill -9 at every step, and at random; LONG=1 for every step of every act and 2,000 random kills
	@$(BIN)/python -m tests.faults $(if $(LONG),--long)

bench: $(VENV)/.dev ## ratios measured within one run; not part of make test
	$(BIN)/python -m pytest -s tests/bench

dist: $(VENV)/.release ## wheel and source archive in dist/, built twice: the two have to be the same, bit by bit
	rm -rf dist build/again
	$(BIN)/python -m hatchling build -d dist
	$(BIN)/python -m hatchling build -d build/again
	diff -r dist build/again

sbom: dist ## dist/tsched.cdx.json: all that an installed tsched consists of (CycloneDX)
	rm -rf build/sbom
	$(PYTHON) -m venv --without-pip build/sbom
	$(BIN)/python -m pip --python build/sbom/bin/python install -q --disable-pip-version-check -c constraints.txt dist/*.whl
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o dist/tsched.cdx.json build/sbom/bin/python

audit: $(VENV)/.release ## known vulnerabilities of all that constraints.txt pins; asks the Python Package Index
	$(BIN)/pip-audit --strict --no-deps --disable-pip --progress-spinner off --requirement constraints.txt

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("tsched needs Python 3.11 or newer; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@ $(VENV)/.run

$(VENV)/.release: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,release]'
	@touch $@ $(VENV)/.run $(VENV)/.dev

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
