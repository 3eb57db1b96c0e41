# Every target does all of its set-up: a virtual environment in .venv, made once.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test slow thorough published evidence figures bench clean

## Train SimSiam and a SimSiam that collapses, on built-in data; print verdicts and a report.
demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

## Lint, types, import floors and all tests that are not slow.
test: $(INSTALLED)
	$(BIN)/ruff check src tests benchmarks examples
	$(BIN)/ruff format --check src tests benchmarks examples
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "not slow and not thorough and not published"

## The tests that take longer: repeated sampling, several processes.
slow: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m "slow and not thorough and not published"

## The laws of recipes on every published variant; kills of sweeps on both engines.
thorough: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 -m thorough

## Two steps of every published protocol, on two processes.
published: $(INSTALLED)
	$(BIN)/pytest -m published

## Regenerate the numbers in docs/evidence.
evidence: $(INSTALLED)
	$(BIN)/python examples/fashion_mnist.py
	$(BIN)/python examples/verdict_margins.py
	$(BIN)/python benchmarks/interval_coverage.py
	$(BIN)/python benchmarks/recipes.py
	$(BIN)/python benchmarks/foretold.py
	$(BIN)/python benchmarks/explained.py
	$(BIN)/fullrank sweep benchmarks/forecast.yaml --runs runs-forecast
	$(BIN)/python benchmarks/forecast.py
	$(BIN)/pip install -q -e ".[bench]"
	$(BIN)/python benchmarks/parity.py
	$(BIN)/python benchmarks/li2022_pilot.py
	$(BIN)/fullrank reproduce all --evidence docs/evidence --table README.md

## Draw the figures of docs/mechanisms.
figures: $(INSTALLED)
	$(BIN)/pip install -q -e ".[bench]"
	$(BIN)/python examples/mechanisms.py

## Compare speeds side by side.
bench: $(INSTALLED)
	$(BIN)/pip install -q -e ".[bench]"
	$(BIN)/python benchmarks/augmentation.py
	$(BIN)/python benchmarks/moments.py
	$(BIN)/python benchmarks/audit.py
	$(BIN)/python benchmarks/monitor.py
	$(BIN)/python benchmarks/training_step.py
	$(BIN)/python benchmarks/recipe_steps.py
	$(BIN)/python benchmarks/phase_diagrams.py
	$(BIN)/python benchmarks/sweep.py

$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -e ".[dev]"
	touch $@

clean:
	rm -rf .venv demo
