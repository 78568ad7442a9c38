# What one types. `make` alone says what there is.
#
#   make demo SONG=my.mp3 GENRE=rumba SEED=3
#
# Everything is installed into $(VENV), inside this folder; nothing else on the machine is touched.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# The demo's arguments. Without a SONG one is composed.
SONG ?=
GENRE ?= waltz
SEED ?= 0
COMPOSED_STYLE := $(or $(filter chacha rumba waltz,$(GENRE)),disco)

# Two workers, one thread each. A test file stays on one worker, so that what its fixtures make is made once.
WORKERS ?= 2
PYTEST_ARGS ?=

PIP := $(BIN)/python -m pip --disable-pip-version-check
# torch first and alone: whatever is installed later finds it there and does not choose a build of its own.
# TORCH_INDEX=URL takes it from another index, e.g. PyTorch's own with the small builds for machines without a GPU.
TORCH_INDEX ?=
export TORCH_INDEX
INSTALL_TORCH = $(PIP) install -q -c constraints.txt $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) torch

# numba compiles loops (of librosa, of the renderer, of large models) when they are first used, and keeps them. Two processes that
# do this at the same time (the workers of the tests) can leave machine code behind that crashes every later one, except for those of
# large models, whose files have names of their own. So one does it here, by running the tests that use them all (the slow ones compile
# for themselves).
COMPILE = $(BIN)/python -m pytest -q -n 0 -m "not slow" tests/test_cpu_kernels.py tests/test_rasterizer.py \
    tests/test_music_features_megadance.py >/dev/null || true

.DEFAULT_GOAL := help
.PHONY: help demo check test test-versions quality types style docs clean

help: ## this list
	@echo "make demo     a person dances to a song: dance.mp4, dance.glb, dance.bvh (SONG=my.mp3 GENRE=rumba SEED=3)"
	@echo "make check    quality, and the tests that take two minutes"
	@echo "make test     all tests"
	@echo "make test-versions   a short part of them with the newest versions of everything, and with the oldest that setup.py allows"
	@echo "make quality  what linter, formatter and type checker have to say"
	@echo "make style    let linter and formatter mend it"
	@echo "make docs     the documentation as a site: build/site/index.html"
	@echo "make clean    remove what was built, installed and generated here"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 10) else \
	    f"Python 3.10 or newer is needed; {sys.executable} is {sys.version.split()[0]}. Name another: make PYTHON=python3.12")'
	@echo "Making an environment in $(VENV)"
	@$(PYTHON) -m venv $(VENV)

# An empty file that says: installed, since the last change of what is to be installed.
$(VENV)/.installed: setup.py pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing torch, then the package (some minutes the first time)"
	@$(INSTALL_TORCH)
	@$(PIP) install -q -c constraints.txt -e .
	@touch $@

$(VENV)/.installed-dev: setup.py pyproject.toml constraints.txt tests/browser.py tests/gltf_validator.py | $(BIN)/python
	@echo "Installing torch, then the package and what its tests need (some minutes the first time)"
	@$(INSTALL_TORCH)
	@$(PIP) install -q -c constraints.txt -e '.[dev]'
	@$(BIN)/python tests/browser.py $(VENV)/browser
	@$(BIN)/python tests/gltf_validator.py $(VENV)/gltf-validator
	@echo "Compiling what numba compiles (a minute)"
	@$(COMPILE)
	@touch $(VENV)/.installed $@

demo: $(VENV)/.installed ## a person dances to a song
	@mkdir -p demo
ifeq ($(strip $(SONG)),)
	@echo "Composing a song of 20 seconds ($(COMPOSED_STYLE))"
	@$(BIN)/python -m megadance_hf.synthetic.composer demo/song.wav --seconds 20 \
	    --style $(COMPOSED_STYLE) --seed 1
endif
	@$(BIN)/megadance generate "$(or $(strip $(SONG)),demo/song.wav)" --genre $(GENRE) --seed $(SEED) \
	    -o dance.mp4 -o dance.glb -o dance.bvh
	@echo
	@echo "Here is your dance:"
	@echo "  dance.mp4   the video, with the song: open it in any player"
	@echo "  dance.glb   the same dance in 3D, for any glTF viewer"
	@echo "  dance.bvh   the same dance for Blender and other animation tools"
	@echo "Your own song:  make demo SONG=my.mp3 GENRE=rumba"
	@echo "All genres:     $(BIN)/megadance genres"

test: $(VENV)/.installed-dev ## all tests
	@$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# The model, the public API and the shape of the repository: less than two minutes of two cores, types and linter included.
CHECKED = $(wildcard tests/test_*_megadance*.py $(foreach name,structure docs readme motion pipeline cli recipes metrics,tests/test_$(name).py))
check: quality ## quality, and the tests that take two minutes
	@$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m "not slow" $(CHECKED) $(PYTEST_ARGS)

# VERSIONS=newest runs one of the two; VERSIONS_ARGS=--remove removes its environment at the end.
VERSIONS ?= newest lowest
VERSIONS_ARGS ?=
test-versions: ## a short part of the tests with the newest and with the oldest versions
	@set -e; for kind in $(VERSIONS); do $(PYTHON) tests/versions.py $(VERSIONS_ARGS) $$kind; done

quality: $(VENV)/.installed-dev ## linter, formatter, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(MAKE) --no-print-directory types

# pyproject.toml says what is checked, and why modeling/ is linked.
types: $(VENV)/.installed-dev ## types alone
	@mkdir -p build/types/megadance_hf
	@ln -sfn ../../../modeling build/types/megadance_hf/modeling
	@$(BIN)/mypy

style: $(VENV)/.installed-dev ## let them mend it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

docs: $(VENV)/.installed-dev ## the documentation as a site
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "Here it is: build/site/index.html"

clean: ## remove what was built, installed and generated here
	rm -rf $(VENV) .venv-newest .venv-lowest build dist *.egg-info demo dance.mp4 dance.glb dance.bvh
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
