# Two targets a newcomer needs: `make demo` and `make test`. Each sets up .venv on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all soak check format clean

demo: .venv/installed ## train on the default recipe, evaluate on unseen examples, translate some
	$(BIN)/seq2seq-train run_dir=runs/demo $(SETTINGS)
	$(BIN)/seq2seq-evaluate bundle=runs/demo/bundle recipe=cldr split=test
	@printf '\nThree lines through seq2seq-translate:\n'
	@printf 'Monday, March 3, 2031\n1,234.5 kilometers\nIceland, Peru, and Japan\n' > runs/demo/in.txt
	$(BIN)/seq2seq-translate bundle=runs/demo/bundle input=runs/demo/in.txt output=runs/demo/out.txt overwrite=true
	@paste runs/demo/in.txt runs/demo/out.txt

# As many at a time as there are cores, each on one thread: most of them wait for a command to start.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist worksteal

test: .venv/installed ## the fast tests
	$(PYTEST) -m 'not slow'

test-all: .venv/installed ## the slow ones too
	$(PYTEST) -m ''

soak: .venv/installed ## the long sweeps of tests/promises: kills, refusing disks, damages, hostile text; properties on newly drawn cases
	SEQ2SEQ_SOAK=1 OMP_NUM_THREADS=1 $(BIN)/pytest -s tests/promises
	SEQ2SEQ_SOAK=1 $(PYTEST) -m hypothesis --ignore tests/promises

check: .venv/installed ## lint, format, types, layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest tests/test_layers.py

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@
