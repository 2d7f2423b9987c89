# Two commands on a fresh machine: `make demo` and `make test`. Both set up .venv first.
PYTHON ?= python3.11
BIN = .venv/bin
TESTS = $(BIN)/python -m pytest -n auto --dist loadfile

.PHONY: demo test check clean

demo: .venv/installed
	$(BIN)/snnconvert demo

test: .venv/installed
	$(TESTS)

# What CI runs: style, types and the tests, on the installed wheel.
check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	cd .venv && bin/python -m mypy --config-file ../pyproject.toml
	$(TESTS)

# constraints.txt holds the torch that the published numbers were measured with; the package itself takes any torch >= 2.10.
.venv/installed: pyproject.toml constraints.txt $(shell git ls-files '*.py' '*.c' '*.j2' '*.css' 'model_zoo/data' 2>/dev/null | grep -v -e '^tests/' -e '^benchmarks/')
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade '.[dev]'
	touch $@

clean:
	rm -rf .venv build dist *.egg-info
