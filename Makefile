# Everything here sets up its own environment in .venv first.
PYTHON ?= python3
BIN := .venv/bin
ATLAS := microscope-atlas

.PHONY: atlas space test test-long test-hours lint docs clean

atlas: .venv/core ## Render the default atlas into microscope-atlas/ and check it; again: only what is missing
	$(BIN)/microscope-atlas render $(ATLAS)
	$(BIN)/microscope-atlas check $(ATLAS)
	@echo
	@echo 'The atlas is in $(ATLAS)/. Look at it from here with'
	@echo
	@echo '    $(BIN)/python -c '"'"'from datasets import load_dataset; load_dataset("$(ATLAS)", "feature_visualization")["efficientnet_lite0"][0]["image"].save("unit.png")'"'"
	@echo '    $(BIN)/python docs/contact_sheet.py $(ATLAS) efficientnet_lite0 blocks_6 sheet.png'
	@echo '    make space'

space: atlas .venv/space ## Serve the Space of the default atlas on this machine, until Ctrl-C
	$(BIN)/microscope-atlas browse $(ATLAS)

test: .venv/test ## The tests: on a CPU, without network, in a few minutes
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=25 --durations-min=5

test-long: .venv/test ## The tests that take minutes: many more faults, and much more bad input
	$(BIN)/python -m pytest -n auto --dist worksteal --durations=25 --durations-min=5 -m long

test-hours: .venv/test ## What takes longer still, by hand: docs/faults.md says when it last passed
	$(BIN)/python -m pytest -n auto --dist worksteal -m hours

lint: .venv/test ## What the pre-commit hooks run
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: .venv/docs ## Build the pages of docs/ into site/; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

clean:
	rm -rf .venv site .pytest_cache .mypy_cache .ruff_cache

.venv/core: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/space: .venv/core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[space]'
	touch $@

.venv/docs: .venv/core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	touch $@

.venv/test: .venv/core
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,lint]'
	touch $@
