# Aliases only. `make demo` and `make test` create the virtual environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test test-newest stress check docs bench clean
help:
	@echo "make demo    make, load, measure, segment and draw synthetic mice; needs only Python 3.11 or newer"
	@echo "make test    run the tests; long trials run with a small count"
	@echo "make stress  run the long trials (kills, races, fuzzing) at full count"
	@echo "make check   run ruff, mypy and the import contract"
	@echo "make docs    write the reference as HTML pages to site/"
	@echo "make bench   run the benchmarks"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[evaluation,torch]'
	@touch $@
$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.demo
	$(BIN)/mousecmr demo
# A run per folder: with the native libraries of all extras in one process, one once ended in a segmentation fault.
# The files of a folder are spread over the processor cores; the tests of a file stay together.
PYTEST = -m pytest --numprocesses auto --dist loadfile
TESTS = tests/functional tests/house tests/stress $(filter-out %__pycache__/,$(wildcard tests/unit/*/))
test: $(VENV)/.dev
	@failed=; for folder in $(TESTS); do $(BIN)/python $(PYTEST) $$folder || failed="$$failed $$folder"; done; \
	$(MAKE) --no-print-directory test-newest || failed="$$failed test-newest"; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }
# The core, without extras, in the newest Python found and with the newest dependencies: no constraints.
NEWEST = $(shell for p in python3.14 python3.13 python3.12 $$(ls -dr $$HOME/.pyenv/versions/3.1[2-9]*/bin/python3 \
	2>/dev/null); do $$p -c "import venv" 2>/dev/null && echo $$p && break; done)
CORE_TESTS = $(addprefix tests/unit/,_utils dataset download phantom schema)
$(VENV)-newest/.core: pyproject.toml
	$(NEWEST) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --editable . \
	hypothesis pytest pytest-socket
	@touch $@
test-newest:
	@if test -z "$(NEWEST)"; then echo "no Python newer than 3.11 found: these tests were left out"; exit 0; fi; \
	$(MAKE) --no-print-directory $(VENV)-newest/.core && $(VENV)-newest/bin/python -m pytest $(CORE_TESTS)
stress: $(VENV)/.dev
	MOUSECMR_STRESS=1 $(BIN)/python -m pytest -m stress
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
docs: $(VENV)/.dev
	$(BIN)/python scripts/make_docs.py
bench: $(VENV)/.dev
	for script in $(filter-out benchmarks/record.py benchmarks/first_table.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done
clean:
	rm -rf $(VENV) $(VENV)-newest site build dist demo-output
