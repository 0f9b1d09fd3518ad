# Aliases only. `make demo` and `make test` create the virtual environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
# By another name: "make -n" runs lines that name the variable MAKE itself.
MAKE_AGAIN = $(MAKE) --no-print-directory
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help weights demo test test-newest test-core test-lowest test-windows stress check coverage docs dist bench clean
help:
	@echo "make demo      make, load, measure, segment and draw synthetic mice; needs only Python 3.11 or newer"
	@echo "make test      run the tests; long trials run with a small count"
	@echo "make stress    run the long trials (kills, races, fuzzing) at full count"
	@echo "make check     run ruff, mypy and the import contract"
	@echo "make coverage  run the tests and show which lines none of them runs"
	@echo "make docs      write the site to site/; a warning is an error"
	@echo "make dist      build wheel and sdist into dist/, with a list of all parts (SBOM)"
	@echo "make bench     run the benchmarks"
	@echo "make weights   train phantom-small again, in runs/: two hours of one processor core"
	@echo "parts of make test: test-core (no extras), test-newest, test-windows; also: test-lowest"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)
$(VENV)/.demo: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) --editable '.[evaluation,torch]'
	@touch $@
$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing into $(VENV): about 3 GB, once; this takes minutes and says nothing."
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
	for part in test-newest test-windows; do $(MAKE_AGAIN) $$part || failed="$$failed $$part"; done; \
	test -z "$$failed" || { echo "failed:$$failed"; exit 1; }
# The weights that ship with the package (docs/training.md).
weights: $(VENV)/.dev
	$(BIN)/mousecmr train --recipe phantom-small -o runs/first --threads 1
	$(BIN)/mousecmr train --recipe phantom-small-refined -o runs/phantom-small --threads 1 \
	--set initial=runs/first/best.safetensors
# The core, without extras and with the newest dependencies: no constraints.
CORE = $(VENV)-core
CORE_BIN = $(CORE)/$(notdir $(BIN))
CORE_TESTS = $(addprefix tests/unit/,_utils dataset download phantom schema)
$(CORE)/.core: pyproject.toml
	$(PYTHON) -m venv --clear $(CORE)
	$(CORE_BIN)/python -m pip install --quiet --disable-pip-version-check --editable . \
	hypothesis pytest pytest-socket
	@touch $@
test-core: $(CORE)/.core
	$(CORE_BIN)/python -m pytest $(CORE_TESTS)
# The same in the newest Python found.
NEWEST = $(shell for p in python3.14 python3.13 python3.12 $$(ls -dr $$HOME/.pyenv/versions/3.1[2-9]*/bin/python3 \
	2>/dev/null); do $$p -c "import venv" 2>/dev/null && echo $$p && break; done)
test-newest:
	@if test -z "$(NEWEST)"; then echo "no Python newer than 3.11 found: these tests were left out"; exit 0; fi; \
	$(MAKE_AGAIN) test-core PYTHON=$(NEWEST) CORE=$(VENV)-newest
# The same with the lowest versions that pyproject.toml allows.
test-lowest: $(VENV)/.dev
	$(BIN)/python scripts/try_environments.py --versions lowest --extras core $(PYTHON)
# The same under the rules of Windows, as tests/windows_rules.py imposes them.
test-windows: $(VENV)/.dev
	MOUSECMR_WINDOWS=1 $(BIN)/python $(PYTEST) $(CORE_TESTS)
stress: $(VENV)/.dev
	MOUSECMR_STRESS=1 $(BIN)/python -m pytest -m stress
check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
COVERED ?= $(TESTS)
coverage: $(VENV)/.dev
	$(BIN)/python benchmarks/line_coverage.py $(COVERED)
docs: $(VENV)/.dev
	$(BIN)/python scripts/make_docs.py
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m uv export --quiet --no-emit-project --format cyclonedx1.5 --output-file dist/sbom.cdx.json
bench: $(VENV)/.dev
	for script in $(filter-out benchmarks/record.py benchmarks/first_table.py benchmarks/line_coverage.py,$(wildcard benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done
clean:
	rm -rf $(VENV) $(VENV)-core $(VENV)-newest site build dist coverage demo-output
