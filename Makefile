# Every target does its own set-up: `make train` and `make test` work on a fresh machine with Python 3.10 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
KITTI ?= data/kitti
IMAGENET ?= IMAGENET1K_V1
TRAINING := $(VENV)/.training
DEV := $(VENV)/.dev

.DEFAULT_GOAL := help
.PHONY: help setup dev data train kitti test lint format reproduce bench clean

help: ## Shows this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(TRAINING) ## Makes the virtual environment .venv and installs the package with what training needs

dev: $(DEV) ## Installs what tests, plots, videos and exports need as well

$(TRAINING): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(DEV): $(TRAINING)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

data: setup ## Writes the embedded data set to data/synthetic
	$(BIN)/python scripts/prepare_data.py data=synthetic

train: data ## Trains and evaluates the quickstart network; a second call goes on or shows the results
	$(BIN)/python scripts/train.py experiment=quickstart

kitti: data ## Trains on KITTI's photographs in KITTI=data/kitti, from ImageNet's weights and the embedded data set
	@test -d '$(KITTI)/training' || { echo 'KITTI=$(KITTI): needed a folder with training/image_2, see data/README.md' >&2; exit 2; }
	$(BIN)/python scripts/train.py experiment=drawn 'model.pretrained=$(IMAGENET)'
	$(BIN)/python scripts/train.py experiment=kitti 'data.root=$(KITTI)'

test: dev ## Runs all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

lint: dev ## Checks style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: dev ## Puts the code into shape
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

reproduce: dev ## Runs table 1 on the embedded data set, five seeds, 104 runs or more; killed, it goes on
	$(BIN)/python scripts/prepare_data.py data=synthetic data.root=data/comparison 'data.image_size=[96,192]'
	$(BIN)/python scripts/compare.py experiment=table1 'seeds=[0,1,2,3,4]'

bench: dev ## Measures speed, as ratios taken in one run
	$(BIN)/python scripts/benchmark.py

clean: ## Removes the virtual environment and caches, but no data and no runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache *.egg-info
