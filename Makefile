# make reproduce | make test | make test-slow: each installs into .venv first, once.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
INSTALLED := .venv/installed
NEWEST := .venv-newest/bin/python
# Torch goes first and alone: later installs then find it there, whichever build it is, and do not choose another.
TORCH := $(shell grep '^torch==' requirements.lock)
PIP := -m pip --disable-pip-version-check install --quiet
ENGINE_TESTS := $(addprefix tests/test_,$(addsuffix .py,schedule selection scorers pruner_files pruning families turns \
  generation robustness versions cache_guard placement tensor_parallel tensor_parallel_commands compressed_cache baselines \
  saliency flops limits question blend pooled))

NBVAL := $(BIN)/pytest --nbval --nbval-current-env --nbval-cell-timeout 300 --nbval-sanitize-with tests/nbval_sanitize.cfg
TIMING := notebooks/04_prefill_benchmark.ipynb notebooks/05_end2end_benchmark.ipynb

.PHONY: install reproduce notebooks test test-slow test-newest lint clean

reproduce: install ## every notebook with the demo profile, two at a time but for those that time, then results/REPRODUCTION.md
	$(BIN)/sdtp reproduce --profile demo --jobs 2

# Notebooks that time run one after another on all threads; the others side by side, on one each.
test: install ## quick tests, then every stored notebook run again and compared
	$(BIN)/pytest -n auto -m "not slow" tests
	$(NBVAL) $(TIMING)
	OMP_NUM_THREADS=1 $(NBVAL) -n auto --dist loadfile $(filter-out $(TIMING),$(wildcard notebooks/*.ipynb))

test-slow: install ## the tests that take longer
	@status=0; $(BIN)/pytest -rs -m slow tests || status=$$?; \
	if [ $$status -eq 5 ]; then echo "there are no slow tests yet"; status=0; fi; exit $$status

test-newest: ## the engine's tests on the newest transformers 5, whatever pyproject.toml allows, in an environment of its own
	$(PYTHON) -m venv .venv-newest
	$(NEWEST) $(PIP) $(TORCH)
	$(NEWEST) $(PIP) --upgrade "transformers>=5.2,<6" accelerate hypothesis packaging pytest "pandas<3" tabulate
	$(NEWEST) tests/newest.py
	PYTHONPATH=. $(NEWEST) -m pytest $(ENGINE_TESTS)

notebooks: install ## execute the notebooks in place, as they are stored
	$(BIN)/python -c "import sys; from sdtp_lib.reproduce import store; [store(name) for name in sys.argv[1:]]" notebooks/*.ipynb

lint: install
	$(BIN)/ruff check .

install: $(INSTALLED)

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 is needed: make PYTHON=/where/it/is')"
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP) $(TORCH)
	$(BIN)/python $(PIP) -r requirements.lock
	$(BIN)/python $(PIP) --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf .venv .venv-newest .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
