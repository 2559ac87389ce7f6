# moodcast: every target sets up what it needs (a virtual environment in .venv, once).
# PYTHON=/path/to/python3.12 chooses the interpreter; ARGS="..." goes to pytest.

.PHONY: help setup demo test check wheel format clean
.DEFAULT_GOAL := help

BIN := .venv/bin
export PYTHON

help:
	@echo "make demo     a real conversation -> who felt what, on a local Ray"
	@echo "make test     all tests, in three processes (ARGS='-m \"not ray\"' passes words to pytest)"
	@echo "make check    ruff, mypy --strict, who may import whom"
	@echo "make wheel    build the wheel, install it into an empty environment and use it"
	@echo "make format   let ruff format and sort the code"
	@echo "make setup    only the virtual environment; the others do it by themselves"
	@echo "make clean    remove what tests and builds left (not .venv, not runs)"

setup:
	@sh scripts/set_up.sh

demo: setup
	@$(BIN)/moodcast demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q tests/test_imports.py

test: setup
	@$(BIN)/pytest -n 3 $(ARGS)

wheel: setup
	@bash scripts/check_wheel.sh

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
