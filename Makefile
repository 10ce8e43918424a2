# Needs Python 3.11 or newer, pip and make; everything else is set up here.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := src tests tools benchmarks conformance soak rehearsal
MXNET_VENV := .venv-mxnet
AUDIT_VENV := .venv-audit
ORACLE_PYTHON ?= $(PYTHON)
# Most of them wait for other processes.
TESTS_AT_A_TIME ?= 3

.PHONY: help demo test lint format bench soak rehearsal conformance audit component-check packages constraints clean

help:
	@echo "make demo   see it work: camera, model, broker and a rule, all on this machine"
	@echo "make test   run the tests"
	@echo "make lint   ruff, mypy"
	@echo "make bench  measure speed and memory (benchmarks/RESULTS.md)"
	@echo "make soak   kills, power cuts and broken disks, for half an hour; needs root (docs/soak.md)"
	@echo "make rehearsal  the whole way on AWS, without an account (docs/rehearsal.md)"
	@echo "make conformance  compare networks and operators with MXNet (docs/mxnet.md)"
	@echo "make component-check  the Greengrass component on devices without a network; needs root (docs/greengrass.md)"
	@echo "make audit  the AWS templates: cfn-lint in every region, checkov (docs/security.md)"

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@echo "Setting up $(VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[demo,litert,cloud,greengrass,dev]'
	@touch $@

demo: $(VENV)/.ready
	@$(BIN)/mli demo $(ARGS) || [ $$? = 130 ]  # Ctrl-C is how one ends it

test: $(VENV)/.ready packages
	$(BIN)/python -m pytest -n $(TESTS_AT_A_TIME) --dist loadfile $(ARGS)

lint: $(VENV)/.ready
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: $(VENV)/.ready
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

bench: $(VENV)/.ready $(MXNET_VENV)/.ready packages
	$(BIN)/python -m benchmarks $(ARGS)

soak: $(VENV)/.ready packages
	$(BIN)/python -m soak $(ARGS)

rehearsal: $(VENV)/.ready packages
	$(BIN)/python -m rehearsal $(ARGS)

component-check: $(VENV)/.ready packages
	$(BIN)/python -m tools.check_component $(ARGS)

# MXNet is the oracle, in a venv of its own: it needs an old numpy, and nothing else here knows of it.
$(MXNET_VENV)/.ready: conformance/mxnet-constraints.txt
	@$(ORACLE_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' || \
	  { echo "MXNet's numpy needs Python 3.10 or 3.11; try: make ORACLE_PYTHON=python3.11 conformance"; exit 1; }
	@echo "Setting up $(MXNET_VENV) (about a minute, once) ..."
	@$(ORACLE_PYTHON) -m venv $(MXNET_VENV)
	@$(MXNET_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

conformance: $(VENV)/.ready $(MXNET_VENV)/.ready
	$(BIN)/python -m conformance $(ARGS)

# checkov pins a boto3 that is older than ours.
$(AUDIT_VENV)/.ready: tools/audit-constraints.txt
	@echo "Setting up $(AUDIT_VENV) (about a minute, once) ..."
	@$(PYTHON) -m venv $(AUDIT_VENV)
	@$(AUDIT_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

audit: $(VENV)/.ready $(AUDIT_VENV)/.ready
	$(BIN)/python tools/audit_templates.py $(AUDIT_VENV)/bin/checkov

packages:
	@tools/install-packages

constraints:
	tools/pin $(PYTHON)

clean:
	rm -rf $(VENV) $(MXNET_VENV) $(AUDIT_VENV) build dist src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
