# `make` = check + test. The virtual environment is made on first use; nothing else has to be set up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export OMP_NUM_THREADS ?= 2

.PHONY: all check test demo docs wheel bench golden help clean label-studio label-studio-install external-install

all: check test  ## check and test

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $(STAMP)

demo: $(STAMP)  ## the embedded study: trains, compares, writes demo/report.html
	OMP_NUM_THREADS=1 $(BIN)/alloop demo --out demo

test: $(STAMP)  ## the whole test suite, one process a core: make test WORKERS=4 for another number
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(or $(WORKERS),auto)

check: $(STAMP)  ## ruff, mypy, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(STAMP)  ## the site, into site/: no file of it is loaded from elsewhere
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

wheel: $(STAMP)  ## build sdist and wheel into dist/, install the wheel in a fresh environment and use it there
	PYTHON=$(abspath $(BIN))/python .ci/check_wheel

bench: $(STAMP)  ## speed and memory as ratios to a peer and to the physical floor
	$(BIN)/python benchmarks/speed.py

LABEL_STUDIO := .label-studio
$(LABEL_STUDIO)/.installed:
	$(PYTHON) -m venv $(LABEL_STUDIO)
	$(LABEL_STUDIO)/bin/python -m pip install --quiet label-studio==1.23.2
	$(PYTHON) -m venv $(LABEL_STUDIO)/readers
	$(LABEL_STUDIO)/readers/bin/python -m pip install --quiet datumaro==1.13.12
	touch $@

label-studio-install: $(LABEL_STUDIO)/.installed  ## Label Studio and an independent reader, each in its own environment

label-studio: label-studio-install  ## start Label Studio on http://127.0.0.1:8090, IMAGES=folder that it may show
	LABEL_STUDIO_BASE_DATA_DIR=$(or $(DATA),$(CURDIR)/$(LABEL_STUDIO)/data) \
	LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=$(abspath $(or $(IMAGES),.)) \
	LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN=true \
	LABEL_STUDIO_LATEST_VERSION_CHECK=false LABEL_STUDIO_COLLECT_ANALYTICS=false \
	LABEL_STUDIO_SENTRY_DSN= LABEL_STUDIO_FRONTEND_SENTRY_DSN= \
	$(LABEL_STUDIO)/bin/label-studio start --no-browser --internal-host 127.0.0.1 --port $(or $(PORT),8090)

EXTERNAL := .venv-external
PURELIB := -c "import sysconfig; print(sysconfig.get_path('purelib'))"
$(EXTERNAL)/.installed: $(STAMP)
	$(PYTHON) -m venv $(EXTERNAL)
	$(BIN)/python $(PURELIB) > "$$($(EXTERNAL)/bin/python $(PURELIB))/borrowed.pth"
	$(EXTERNAL)/bin/python -m pip install --quiet --no-deps \
	    ultralytics==8.4.190 ultralytics-thop opencv-python-headless py-cpuinfo psutil polars
	$(EXTERNAL)/bin/python -m pip install --quiet transformers==5.24.0
	touch $@

external-install: $(EXTERNAL)/.installed  ## Ultralytics (AGPL) and transformers beside alloop, borrowing its PyTorch

golden: $(STAMP)  ## check golden vectors: make golden DIR=folder
	$(BIN)/python benchmarks/golden.py $(or $(DIR),tests/golden)

clean:  ## remove the virtual environment and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis site dist build

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/:/'
