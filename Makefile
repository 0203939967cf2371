# Everything a newcomer, a laptop and CI run. `make help` lists it.
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PROTOS_VENV := .venv-protos
PROTOS_STAMP := $(PROTOS_VENV)/.installed
BUF_VERSION := 1.75.0
BUF := build/tools/buf-$(BUF_VERSION)/node_modules/.bin/buf
# An NVIDIA device chooses the CUDA builds of torch and onnxruntime; DEVICE=cpu or DEVICE=gpu overrides it.
DEVICE ?= $(shell test -e /dev/nvidiactl -o -e /dev/dxg && echo gpu || echo cpu)
# A Python that is new enough: python3 if it is, else the newest that is.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
REQUIRE_PYTHON = $(or $(PYTHON),false) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	echo 'Atelier needs Python 3.11 or newer, not "$(PYTHON)". Set PYTHON=/path/to/python3.11.' >&2; exit 1; }
NODE_STAMP := clients/node/node_modules/.package-lock.json
# Clients and servers of others, each in an environment of its own, since their pins exclude each other.
TRITON_CLIENT := build/venv-tritonclient
TRITON_CLIENT_STAMP := $(TRITON_CLIENT)/.installed
AUDIT := build/venv-audit
AUDIT_STAMP := $(AUDIT)/.installed
PYTRITON := build/venv-pytriton
PYTRITON_STAMP := $(PYTRITON)/.installed
# PyTriton's server wants the system's own python3; another build of Python fails in its library.
SYSTEM_PYTHON ?= /usr/bin/python3
# OpenVINO GenAI and what exports models for it.
GENAI := build/venv-genai
GENAI_STAMP := $(GENAI)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo test check serve bench routes protos train evaluate format clean install \
	check-style check-types check-layers check-stubs check-reference check-protos check-wheels reference soak-models chaos soak overload try-batch contact-sheet node

help: ## list the targets
	@echo 'make demo    makes .venv, starts a server, generates out/demo.png (PROMPT="…" to choose)'
	@echo
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r t d; do \
		printf '  %-14s %s\n' "$$t" "$$d"; done

demo: $(STAMP) ## start a server, generate one picture with progress, scores and timings, stop the server
	@$(BIN)/python scripts/demo.py

serve: $(STAMP) ## run the server in the foreground on 127.0.0.1:8001 (ARGS="…" for flags)
	$(BIN)/atelier-server serve $(ARGS)

test: $(STAMP) ## run the whole default suite with coverage (ARGS="…" for pytest)
	@mkdir -p build/coverage
	@rm -f build/coverage/data*
	$(BIN)/python -m pytest --cov --cov-report=term --cov-report=html:build/coverage/html $(ARGS)

check: check-style check-types check-layers check-stubs check-reference check-protos check-wheels ## everything CI checks beside the tests

check-style: $(STAMP) ## ruff, lint and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

check-types: $(STAMP) ## mypy --strict on server and client
	$(BIN)/mypy

check-layers: $(STAMP) ## import-linter: who may import whom
	$(BIN)/lint-imports --no-logo

check-stubs: $(PROTOS_STAMP) ## the committed stubs are what the compiler writes
	$(PROTOS_VENV)/bin/python scripts/protos.py --check

check-reference: $(STAMP) $(PROTOS_STAMP) ## the pages of docs/reference are what protos/, configuration and command lines say
	$(PROTOS_VENV)/bin/python scripts/api_reference.py --check
	$(BIN)/python scripts/command_reference.py --check

# buf comes from npm. CI has it; a laptop without it skips these two checks, and says so.
check-protos: ## buf: lint, and no breaking change since the last release
	@if $(MAKE) --silent --no-print-directory $(BUF); then \
		cd protos && ../$(BUF) lint && ../$(BUF) breaking --against released.binpb && echo 'buf: lint and breaking passed'; \
	elif [ -n "$$CI" ]; then echo 'buf could not be installed with npm' >&2; exit 1; \
	else echo 'SKIPPED buf lint and breaking: npm could not install @bufbuild/buf'; fi

check-wheels: $(STAMP) ## build the three wheels, install them in a fresh environment and try them
	$(BIN)/python scripts/try_wheels.py

try-batch: $(STAMP) ## 200 prompts from a CSV while the server is ended twice (ARGS=--starter for real pictures)
	$(BIN)/python scripts/try_batch.py $(ARGS)

contact-sheet: $(STAMP) ## docs/pictures/contact_sheet.jpg: eight prompts from a CSV, as their page shows them (chromium)
	$(BIN)/python scripts/contact_sheet.py $(ARGS)

bench: $(STAMP) ## measure speed beside the peers, write benchmarks/results and the plots (ARGS="PART… --quick")
	$(BIN)/python benchmarks/run.py $(ARGS)

bench-peers: $(TRITON_CLIENT_STAMP) $(PYTRITON_STAMP) $(GENAI_STAMP) ## install the peers that make bench compares with

fairness: $(STAMP) ## one client floods with 200 calls: what that costs another one's five (ARGS="--at-once")
	$(BIN)/python benchmarks/bench_fairness.py $(ARGS)

fuzz: $(STAMP) ## 20,000 mutated messages to a real server; counts the answers (ARGS="--messages N --seed N")
	$(BIN)/python scripts/fuzz.py $(ARGS)

audit: $(AUDIT_STAMP) ## look the pinned packages up among known vulnerabilities (asks a service on the network)
	@$(AUDIT)/bin/python scripts/audit.py $(AUDIT)/bin/pip-audit $(ARGS)

routes: $(STAMP) ## how AUTO chooses for 60 labelled prompts, with its reasons (ARGS="PROMPT…" for your own)
	@$(BIN)/python scripts/routes.py $(ARGS)

bench-score: $(STAMP) ## measure Score against decoding, preprocessing and onnxruntime called directly
	$(BIN)/python benchmarks/bench_score.py $(ARGS)

tritonclient: $(TRITON_CLIENT_STAMP) ## install NVIDIA's client, which tests/conformance drives the server with

conformance: $(STAMP) $(TRITON_CLIENT_STAMP) ## drive a server with NVIDIA's own client, every method of it
	$(BIN)/python -m pytest -s tests/conformance $(ARGS)

soak-models: $(STAMP) ## replace a model under traffic, unload and load it 50 times, and count what is left (ARGS="--rounds N")
	$(BIN)/python scripts/soak_models.py $(ARGS)

chaos: $(STAMP) ## kill, stop and break runners and servers under calls, and print what became of the calls (minutes)
	$(BIN)/python benchmarks/chaos.py $(ARGS)

soak: $(STAMP) ## calls, leavers and kills for MINUTES=60, then what grew: memory, descriptors, threads, shared memory
	$(BIN)/python benchmarks/soak.py --minutes $(or $(MINUTES),60) --starter $(ARGS)

overload: $(STAMP) ## ten times the capacity for a minute: goodput, how true the estimates are, how fast refusals come
	$(BIN)/python benchmarks/overload.py $(ARGS)

try-image: $(STAMP) ## the Dockerfile's install and start steps without a container engine, up to a healthy server (minutes)
	$(BIN)/python -m pytest -s -m slow tests/deploy/test_image.py $(ARGS)

bench-kserve: $(STAMP) $(TRITON_CLIENT_STAMP) $(PYTRITON_STAMP) ## throughput and latency of ModelInfer beside the real Triton
	$(BIN)/python benchmarks/bench_kserve.py $(ARGS)

node: $(NODE_STAMP) ## install the Node client's packages, which tests/client/test_node.py needs

protos: $(PROTOS_STAMP) ## regenerate the Python stubs from protos/
	$(PROTOS_VENV)/bin/python scripts/protos.py

reference: $(STAMP) $(PROTOS_STAMP) ## write the pages of docs/reference from protos/, configuration and command lines
	$(PROTOS_VENV)/bin/python scripts/api_reference.py
	$(BIN)/python scripts/command_reference.py

train: $(STAMP) ## train every starter model and export it (ARGS="--minutes 180" in all; hours on a CPU)
	$(BIN)/python training/train.py $(ARGS)

evaluate: $(STAMP) ## measure the starter models on held-out pictures
	$(BIN)/python training/evaluate.py $(ARGS)

format: $(STAMP) ## format and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## remove what was built, generated pictures and both environments
	rm -rf build out dist $(VENV) $(PROTOS_VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

install: $(STAMP) ## only make .venv and install

$(STAMP): pyproject.toml protos/pyproject.toml clients/python/pyproject.toml constraints.txt scripts/install.sh
	@$(REQUIRE_PYTHON)
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { \
		echo 'Python cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv.' >&2; rm -rf $(VENV); exit 1; }
	@echo 'Installing into $(VENV) for $(DEVICE) …'
	@scripts/install.sh $(VENV) $(DEVICE) test dev train
	@touch $@

$(PROTOS_STAMP): protos/requirements-compiler.txt
	@$(REQUIRE_PYTHON)
	@[ -x $(PROTOS_VENV)/bin/python ] || $(PYTHON) -m venv $(PROTOS_VENV)
	@$(PROTOS_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

$(TRITON_CLIENT_STAMP):
	@$(REQUIRE_PYTHON)
	@[ -x $(TRITON_CLIENT)/bin/python ] || $(PYTHON) -m venv $(TRITON_CLIENT)
	@echo 'Installing NVIDIA tritonclient into $(TRITON_CLIENT) …'
	@$(TRITON_CLIENT)/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'tritonclient[grpc]' numpy
	@touch $@

$(NODE_STAMP): clients/node/package-lock.json
	@npm ci --prefix clients/node --no-audit --no-fund --loglevel=error
	@touch $@

$(AUDIT_STAMP):
	@$(REQUIRE_PYTHON)
	@[ -x $(AUDIT)/bin/python ] || $(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/python -m pip --disable-pip-version-check install --quiet 'pip-audit>=2.9,<3'
	@touch $@

$(PYTRITON_STAMP):
	@[ -x $(PYTRITON)/bin/python ] || $(SYSTEM_PYTHON) -m venv $(PYTRITON)
	@echo 'Installing NVIDIA PyTriton, which ships the real Triton server, into $(PYTRITON) …'
	@$(PYTRITON)/bin/python -m pip --disable-pip-version-check install --quiet nvidia-pytriton==0.7.0 \
		onnxruntime==$(shell sed -n 's/^onnxruntime==//p' constraints.txt)
	@touch $@

$(GENAI_STAMP): $(STAMP)
	@[ -x $(GENAI)/bin/python ] || $(PYTHON) -m venv $(GENAI)
	@echo 'Installing OpenVINO GenAI and optimum-intel into $(GENAI) …'
	@$(GENAI)/bin/python -m pip --disable-pip-version-check install --quiet \
		"torch==$$($(BIN)/python -c 'import torch; print(torch.__version__)')" \
		openvino-genai==2026.4.1.0 openvino==2026.4.1 optimum-intel==2.2.0 diffusers
	@# The index's torchvision fits its CUDA build of torch only; beside a CPU build transformers fails on it.
	@$(GENAI)/bin/python -c 'import torchvision' 2>/dev/null || \
		$(GENAI)/bin/python -m pip --disable-pip-version-check uninstall --quiet --yes torchvision
	@touch $@

$(BUF):
	@npm install --prefix build/tools/buf-$(BUF_VERSION) --no-save --no-audit --no-fund --loglevel=error @bufbuild/buf@$(BUF_VERSION)
