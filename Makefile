# What to type, in one place. CI and people run the same targets.

# The Python that makes .venv; 3.11 or newer.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help install data repro summary lint test lock hooks
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do printf 'make %-9s %s\n' "$$target" "$$text"; done

install: ## .venv with exactly the packages of requirements.lock
	@$(PYTHON) scripts/install.py

data: install ## data/ in the version that data.dvc names
	@$(BIN)/python -m scripts.get_data

repro: data ## the trained and evaluated model: whatever dvc.yaml finds out of date
	@$(BIN)/python -m stages.params
	@$(BIN)/dvc repro
	@$(BIN)/python -m review summary

summary: install ## the result in the workspace, and whether it equals the committed one
	@$(BIN)/python -m review summary

lint: install ## ruff and mypy
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

test: lint ## lint, then every test
	@$(BIN)/python -m pytest

lock: install ## requirements.lock anew from the pins in pyproject.toml
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --custom-compile-command 'make lock' \
		--group prepare --group train --group evaluate --group workflow --group dev --output-file requirements.lock

hooks: install ## git hooks that check each commit (.pre-commit-config.yaml)
	@$(BIN)/pre-commit install
