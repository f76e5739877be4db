# make demo    draw phantoms, train DenseNet-169 on them, score held-out studies, draw the curves, classify radiographs with
#              the weights of this repository: five minutes on two cores
# make test    lint and tests: seven to fifteen minutes on two cores
# make test-slow  each recipe with its real network, all networks of docs/networks.md, several hosts, coverage of the intervals:
#              two hours or so
# make coverage  branch coverage of the rooms that numbers depend on: scores, splits, layouts, images, schedules, records
# make numbers  regenerate the numbers of README.md and docs/ from their records; fails where a page differed
# make soak    fifty kills of a training at random moments, each resumed and compared, and long fuzzing: about forty minutes
# Both set up .venv first; needed are Python 3.11 to 3.13 and make. PYTHON=python3.12 make demo picks another Python.

PYTHON ?= python3
BIN := .venv/bin
COVERED := bones/scores/*,bones/data/splits.py,bones/data/layouts.py,bones/data/images.py,bones/data/views.py,bones/training/trainer.py,bones/runs/record.py,bones/runs/options.py
RUN := runs/demo-$(shell date +%Y%m%d-%H%M%S)

.PHONY: demo test test-slow coverage numbers soak clean

demo: .venv/installed
	$(BIN)/python mura.py --demo --out $(RUN)
	$(BIN)/python model_test.py $(RUN)
	$(BIN)/python plot_results.py $(RUN) --out $(RUN)/figures
	$(BIN)/python model_test.py weights/fracatlas weights/fracatlas/examples/*.jpg

test: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup

test-slow: .venv/installed-test
	$(BIN)/python -m pytest -q -m slow

coverage: .venv/installed-test
	$(BIN)/python -m coverage run --branch --include='$(COVERED)' -m pytest -q tests/scores tests/data tests/runs tests/training
	$(BIN)/python -m coverage report --show-missing

numbers: .venv/installed
	$(BIN)/python -m tools.numbers

soak: .venv/installed-test
	PYTHONPATH=.:tests $(BIN)/python tests/soak.py --kills 50
	FUZZ=50 $(BIN)/python -m pytest -q -n 2 tests/scripts/test_fuzz.py

clean:
	rm -rf .venv data/cache data/phantom data/phantom_demo

.venv/installed: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14) and "Python 3.11, 3.12 or 3.13 is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-test: .venv/installed requirements/test.txt requirements/extra.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/test.txt
	touch $@
