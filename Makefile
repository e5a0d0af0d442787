# Everything a person runs. Each target does its own set-up, and does it once.

PYTHON ?= $(or $(shell command -v python3.11),python3)
export PATH := $(CURDIR)/.venv/bin:$(PATH)

# Nobody is told what runs here.
export DVC_NO_ANALYTICS := 1
export DO_NOT_TRACK := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export YOLO_OFFLINE := true
export YOLO_AUTOINSTALL := false
export YOLO_CONFIG_DIR := $(CURDIR)/.ultralytics
# Stages show their progress themselves; bars of libraries stand between.
export TQDM_DISABLE := 1
export HF_HUB_DISABLE_PROGRESS_BARS := 1

# What is installed is a function of these two files; the stamp carries their hash.
READY := .venv/ready-$(shell cat requirements.lock pyproject.toml | sha256sum | cut -c1-16)

.PHONY: setup lavis repro paper status comments back smoke hour test bare mutate lint format bench ui
.DEFAULT_GOAL := repro

setup: $(READY) ## the environment, from the lock
$(READY):
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	test -x .venv/bin/uv || { \
	  awk '/^[a-z]/ {wanted = /^uv==/} wanted' requirements.lock > .venv/uv.lock && \
	  .venv/bin/python -m pip install --quiet --require-hashes --requirement .venv/uv.lock; }
	.venv/bin/uv pip install --quiet --python .venv/bin/python --compile-bytecode --require-hashes --requirement requirements.lock
	.venv/bin/uv pip install --quiet --python .venv/bin/python --no-deps --editable .
	rm -f .venv/ready-*
	touch $@

LAVIS := .lavis/ready-$(shell sha256sum envs/lavis.lock | cut -c1-16)
lavis: $(LAVIS) ## LAVIS' own environment, for caption=lavis
$(LAVIS): | setup
	.venv/bin/uv venv --quiet --allow-existing --python 3.11 .lavis
	.venv/bin/uv pip install --quiet --python .lavis/bin/python --require-hashes --requirement envs/lavis.lock
	rm -f .lavis/ready-*
	touch $@

repro: setup ## rebuild what is out of date; EXPERIMENT=name, MY=folder or OVERRIDES="train.optimisation.steps=100" choose values
	@python -m instdiff.config $(if $(EXPERIMENT),experiment=$(EXPERIMENT)) $(if $(MY),'my="$(MY)"') $(OVERRIDES)
	@python -m flows.repro
	@python -m eval.table
	@echo "report: $(CURDIR)/report.html"

paper: setup ## the paper's table: COCO=folder WEIGHTS=folder [SUBSET=500] [WORKERS=8, slurm or tcp://...] [OUT=paper] [OVERRIDES=...]
	@python -m flows.paper --coco "$(COCO)" --weights "$(WEIGHTS)" $(if $(SUBSET),--subset $(SUBSET)) \
	  $(if $(WORKERS),--workers "$(WORKERS)") $(if $(OUT),--out "$(OUT)") $(OVERRIDES)

status: setup ## what is out of date, and why
	@python -m flows.status

comments: setup ## take stages as up to date of whose code only comments and docstrings changed
	@python -m flows.status --commit

back: setup ## values and outputs of the last commit; loses nothing
	@python -m flows.back

smoke: setup ## every stage, small, in a copy of this repository under runs/smoke
	mkdir -p runs
	pytest --quiet -s --basetemp=runs/smoke tests/test_smoke.py -k "not kill"

hour: $(if $(SMALL),setup) ## a stranger's first hour in a fresh clone, step by step; SMALL=1 in minutes, with this tree's environment
	@$(PYTHON) tests/strangers_hour.py $(if $(SMALL),--small)

test: setup lint ## the contracts, then every test
	OMP_NUM_THREADS=1 pytest --numprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

bare: setup ## tests in a root with Python, Git, make and nothing else, for who may mount: TESTS="tests/test_browser.py"; or HOUR=1
	bash tests/bare_root.sh $(if $(HOUR),--hour,$(or $(TESTS),tests))

mutate: setup ## which small faults the tests notice, in files changed against main; MUTATE="--whole --sample 40" chooses
	OMP_NUM_THREADS=1 python tests/mutate.py $(MUTATE)

lint: setup
	ruff check .
	ruff format --check .
	mypy
	lint-imports

format: setup
	ruff check --fix .
	ruff format .

bench: setup ## how fast the parts are
	python -m pytest --quiet -s bench

ui: setup ## a Prefect server on loopback and its deployments; PORT=4300; ALLOW=/data/coco lets the form's values name that folder
	@python -m flows.serve $(if $(PORT),--port $(PORT)) $(foreach folder,$(ALLOW),--allow $(folder))
