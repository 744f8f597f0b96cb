# make quickstart: from nothing to a significance table.   make test: everything a change must pass.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.installed
BESIDE := -n 2 --dist loadfile # two processes: a test waits for half of its time, and most machines have two cores

.PHONY: setup quickstart check test test-slow test-cluster chaos null-studies any-study kills schema clean
.DEFAULT_GOAL := quickstart

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, $(PYTHON) is {v.major}.{v.minor}: make PYTHON=python3.11")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

quickstart: $(READY)
	$(BIN)/python -m medvision.assets fetch
	$(BIN)/python -m orchestrator.run ablations/quickstart.yaml

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo 2>/dev/null || $(BIN)/lint-imports

test: check
	$(BIN)/python -m medvision.assets fetch --all
	$(BIN)/python -m pytest -m "not slow" $(BESIDE)

test-slow: $(READY)
	$(BIN)/python -m medvision.assets fetch --all
	$(BIN)/python -m pytest -m slow $(BESIDE) --durations=20

test-cluster: $(READY)
	$(BIN)/python -m pytest -m slow tests/cluster

chaos: $(READY)
	MEDVISION_CHAOS_KILLS=20 $(BIN)/python -m pytest -m slow tests/chaos

null-studies: $(READY)
	MEDVISION_NULL_STUDIES=2000 $(BIN)/python -m pytest -m slow tests/reports/sections/test_null_studies.py

any-study: $(READY)
	MEDVISION_STUDIES=100 $(BIN)/python -m pytest --hypothesis-profile default tests/reports/test_any_study.py

kills: $(READY)
	MEDVISION_KILLS=all $(BIN)/python -m pytest -m slow tests/record/test_kills.py tests/record/test_s3_faults.py \
		tests/orchestrator/executors/test_dying_lanes.py

schema: $(READY)
	$(BIN)/python -m orchestrator.run --schema > ablations/schema.json
	$(BIN)/python -m orchestrator.spec.reference > docs/spec.md

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
