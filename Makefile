# make reproduce | make test | make test-slow: each installs into .venv first, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
PY312 ?= python3.12
ENGINE_VENV := .venv-newest
NEWEST = $(ENGINE_VENV)/bin/python
# Torch goes first and alone: later installs then find it there, whichever build it is, and do not choose another.
TORCH := $(shell grep '^torch==' requirements.lock)
PIP := -m pip --disable-pip-version-check install --quiet
ENGINE_TESTS := tests/pruning tests/scorers $(addprefix tests/,$(addsuffix .py,models/test_placement training/test_saliency \
  latency/test_flops latency/test_flop_estimates cli/test_tensor_parallel_commands))

NBVAL := $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval_sanitize.cfg

.PHONY: install reproduce store notebooks answers test test-slow test-newest test-py312 lint clean

reproduce: install ## every notebook with the demo profile, two at a time but for those that time, into runs/demo
	$(BIN)/sdtp reproduce --profile demo --jobs 2

# make store PROFILE=demo [ONLY=06] [MODEL=folder] [JOBS=1] [RESUME=1]
store: install ## run a profile from a tree without changes, then renew results/PROFILE and figures/PROFILE, and nothing else does
	@$(if $(PROFILE),,echo "name the profile: make store PROFILE=demo" >&2; exit 2)
	@$(if $(word 2,$(ONLY)),echo "ONLY takes one notebook: make store PROFILE=$(PROFILE) ONLY=06" >&2; exit 2)
	$(BIN)/sdtp reproduce --store --profile $(PROFILE) --jobs $(or $(JOBS),1) $(addprefix --only ,$(ONLY)) \
	  $(addprefix --model ,$(MODEL)) $(if $(RESUME),--resume)

# Notebooks side by side, on one thread each, also those that time, since no times are compared.
test: install ## quick tests, then every stored notebook run again and compared
	$(BIN)/pytest -n auto -m "not slow" tests
	OMP_NUM_THREADS=1 $(NBVAL) -n auto --dist loadfile notebooks/*.ipynb

test-slow: install ## the tests that take longer
	@status=0; $(BIN)/pytest -rs -m slow tests || status=$$?; \
	if [ $$status -eq 5 ]; then echo "there are no slow tests yet"; status=0; fi; exit $$status

test-newest: ## the engine's tests on the newest transformers 5, whatever pyproject.toml allows, in an environment of its own
	$(PYTHON) -m venv $(ENGINE_VENV)
	$(NEWEST) $(PIP) $(TORCH)
	$(NEWEST) $(PIP) --upgrade "transformers>=5.2,<6" accelerate hypothesis jsonschema packaging pytest "pandas<3" tabulate
	$(NEWEST) tests/newest.py
	PYTHONPATH=. $(NEWEST) -m pytest $(ENGINE_TESTS)

test-py312: ## the same on Python 3.12 (PY312=/where/it/is); where there is none, that is said and nothing is tested
	@if $(PY312) -c "import sys; sys.exit(sys.version_info[:2] != (3, 12))" 2>/dev/null; then \
	$(MAKE) test-newest PYTHON="$(PY312)" ENGINE_VENV=.venv-py312; else \
	echo "SKIPPED: $(PY312) is no Python 3.12 here; the engine was NOT tested on it" >&2; fi

notebooks: install ## execute the notebooks in place, as they are stored
	$(BIN)/python -c "import sys; from sdtp_lib.runner.execution import store; [store(name) for name in sys.argv[1:]]" notebooks/*.ipynb

answers: install ## renew what the notebooks show of stored results, above their parameters; runs no model
	$(BIN)/python -c "import sys; from sdtp_lib.runner.execution import refresh; [refresh(name) for name in sys.argv[1:]]" notebooks/*.ipynb

lint: install ## style, and the law of the house: who may import whom
	$(BIN)/ruff check .
	$(BIN)/lint-imports

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 is needed: make PYTHON=/where/it/is')"
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) -r requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv .venv-newest .venv-py312 .import_linter_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
