# Every target works on a fresh machine that has Python 3.11 or newer; `make` alone lists them.

PYTHON ?= python3
# What builds images: docker or podman, whichever is there.
ENGINE ?= $(firstword $(foreach tool,docker podman,$(if $(shell command -v $(tool) 2>/dev/null),$(tool))))
IMAGE_TAG ?= 0.1.0
IMAGES := gateway-hyperliquid gateway-tradexyz gateway-lighter router aggregator simulator nats
TOOLS := .run/tools
KUSTOMIZE_VERSION := v5.7.1
VENV ?= .venv
PYTEST_ARGS ?=
ARGS ?=
# What `breaking` compares the protos with: a git ref; empty chooses one, `none` skips.
BREAKING_AGAINST ?=
# Of `conformance`: the gateway, and the account and instrument to trade; the first it lists when empty.
TARGET ?=
ACCOUNT ?=
SYMBOL ?=
# Of `bench`: such as --quick.
BENCH_ARGS ?=
# Of `soak`: how long, and the seed of the blows; drawn when empty.
MINUTES ?= 10
SEED ?=

BIN := $(VENV)/bin
PY := $(BIN)/python
RUNTIME := $(VENV)/.installed-runtime
DEV := $(VENV)/.installed-dev
# The locks are complete, so nothing is resolved again.
PIP_INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes
PYTEST := $(PY) -m pytest $(PYTEST_ARGS)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-dev proto proto-check breaking fmt lint types unit contract integration e2e soak test cover \
	conformance clients clients-test run demo up down certs check check-static clean lock images image-check \
	k8s-tools k8s-check bench bench-check

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# --- environment

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		echo "venuemesh needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
		echo "Name another one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make an environment; on Debian and Ubuntu install python3-venv." >&2; \
		rm -rf $(VENV); exit 1; }

# The stamps hold what was installed: touching a lock file installs nothing, changing it does.
$(RUNTIME): requirements.lock | $(PY)
	@cmp -s $< $@ || { echo "installing requirements.lock"; $(PIP_INSTALL) -r $<; }
	@cp $< $@

$(DEV): requirements-dev.lock | $(PY)
	@cmp -s $< $@ || { echo "installing requirements-dev.lock"; $(PIP_INSTALL) -r $<; }
	@cp $< $@

setup: $(RUNTIME) ## make .venv and install what the mesh needs to run

setup-dev: $(DEV) ## the same with everything for tests and checks

lock: setup-dev ## bring both lock files in line with pyproject.toml
	@for extra in "--extra dev pyproject.toml -o requirements-dev.lock" \
			"-c requirements-dev.lock pyproject.toml -o requirements.lock"; do \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
			--no-emit-index-url --no-emit-find-links $$extra || exit 1; \
	done

# --- the mesh

run: setup ## start the whole mesh here, show an order from client to portfolio, stay up until Ctrl-C
	@$(PY) -m deploy.local up $(ARGS)

up: run ## the same as run

demo: setup ## the same on free ports, checked step by step; exits 0 or 1
	@$(PY) -m deploy.local demo --ports auto --state-dir .run/demo $(ARGS)

certs: setup ## certificates of all services for this machine, in .run/tls; running services take them at once
	@$(PY) -m venuemesh.security certs .run/tls router aggregator gateway_hyperliquid gateway_tradexyz \
		gateway_lighter operator client

down: setup ## stop the mesh that `make run` started
	@$(PY) -m deploy.local down $(ARGS)

# --- images and Kubernetes

images: ## build an image per service with docker or podman: IMAGE_TAG=..
	@test -n '$(ENGINE)' || { echo "no docker or podman here; make image-check runs the same steps without" >&2; exit 2; }
	@for image in $(IMAGES); do \
		echo "venuemesh/$$image:$(IMAGE_TAG)"; \
		$(ENGINE) build --quiet --target $$image --tag venuemesh/$$image:$(IMAGE_TAG) \
			--file deploy/image/Dockerfile . || exit 1; \
	done

image-check: setup-dev k8s-tools ## the Dockerfile's steps in a clean folder, and the mesh run from it
	@VENUEMESH_IMAGE=1 $(PYTEST) tests/unit/deploy/k8s/test_image.py tests/e2e/k8s/test_image_steps.py

k8s-tools: ## kustomize for the tests, installed by Go where it is missing
	@if PATH="$$PATH:$(TOOLS)" command -v kustomize >/dev/null; then exit 0; fi; \
	if ! command -v go >/dev/null; then \
		echo "k8s: neither kustomize nor Go here, so overlays are not rendered; the base is checked as it is written"; \
		exit 0; fi; \
	echo "installing kustomize $(KUSTOMIZE_VERSION) in $(TOOLS)"; \
	GOBIN="$(CURDIR)/$(TOOLS)" go install sigs.k8s.io/kustomize/kustomize/v5@$(KUSTOMIZE_VERSION) || \
		echo "k8s: kustomize could not be installed, so overlays are not rendered"

k8s-check: setup-dev k8s-tools ## manifests: rendered, validated, compared with the code, and run as a mesh
	@VENUEMESH_PODS=1 $(PYTEST) tests/unit/deploy/k8s tests/e2e/k8s/test_pods.py

# --- contract

proto: setup-dev ## generate venuemesh/v1 and clients/service_config.json from protos/
	@$(PY) protos/generate.py
	@$(PY) clients/service_config.py

proto-check: setup-dev ## generated code is current; protos are linted and formatted
	@$(PY) protos/generate.py --check
	@$(PY) clients/service_config.py --check
	@$(BIN)/buf lint protos
	@$(BIN)/buf format protos --diff --exit-code

# A release tag is what callers have; without one, the protos before their last change, so that the comparison
# says something in a clean clone too. Skipped without history, as in a source archive or a shallow clone.
breaking: setup-dev ## protos break no caller: compared with the last tag, else with their previous commit
	@base='$(BREAKING_AGAINST)'; \
	if [ "$$base" = none ]; then echo "breaking: skipped as asked"; exit 0; fi; \
	if ! git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then \
		echo "breaking: skipped, this tree has no git history"; exit 0; fi; \
	if [ -z "$$base" ]; then base=$$(git describe --tags --abbrev=0 2>/dev/null || true); fi; \
	if [ -z "$$base" ]; then \
		if git diff --quiet HEAD -- 'protos/*.proto'; then back=2; else back=1; fi; \
		base=$$(git log --format=%H -n $$back -- 'protos/*.proto' | sed -n "$${back}p"); fi; \
	if [ -z "$$base" ]; then \
		echo "breaking: skipped, history has no earlier version of the protos"; exit 0; fi; \
	echo "breaking: against $$base"; \
	$(BIN)/buf breaking protos --against ".git#ref=$$base,subdir=protos"

# --- code

fmt: setup-dev ## format code and protos
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix --quiet
	@$(BIN)/buf format protos --write

lint: setup-dev ## ruff: format and rules
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check

types: setup-dev ## mypy --strict
	@$(BIN)/mypy

# --- tests

unit: setup-dev ## pure tests
	@$(PYTEST) tests/unit

contract: setup-dev ## one suite against every gateway
	@$(PYTEST) tests/contract

conformance: setup-dev ## the same against a running gateway: TARGET=host:port [ACCOUNT=..] [SYMBOL=..]
	@test -n '$(TARGET)' || { echo "name the gateway: make conformance TARGET=127.0.0.1:50051" >&2; exit 2; }
	@CONFORMANCE_TARGET='$(TARGET)' CONFORMANCE_ACCOUNT='$(ACCOUNT)' CONFORMANCE_SYMBOL='$(SYMBOL)' \
		$(PYTEST) tests/contract

integration: setup-dev ## real gRPC, JetStream and processes
	@$(PYTEST) tests/integration

e2e: setup-dev ## the whole mesh
	@$(PYTEST) tests/e2e

soak: setup-dev ## kill everything under load: MINUTES=.. [SEED=..]; a summary, exits 1 on any loss or duplicate
	@$(PY) -m tests.soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED))

clients: setup-dev ## build the example clients in clients/ whose toolchain is here
	@$(PY) clients/toolchains.py

clients-test: clients ## run each of them against a mesh of its own
	@$(PYTEST) -rs clients/test_examples.py

bench: setup-dev ## measure everything on this machine: docs/performance.md and .json, in about nine minutes
	@$(PY) -m benchmarks $(BENCH_ARGS)

bench-check: setup-dev ## measure again what is compared; exits 1 when a ratio is beyond the tolerance
	@$(PY) -m benchmarks --check $(BENCH_ARGS)

# Two workers; tests that must not run beside each other carry the same `xdist_group` mark.
test: setup-dev ## all tests
	@$(PYTEST) -n 2 --dist loadgroup tests

cover: setup-dev ## all tests with coverage
	@$(PY) -c 'import pytest_cov' 2>/dev/null || { \
		echo "pytest-cov is not in requirements-dev.lock: add it to pyproject.toml, then make lock" >&2; exit 1; }
	@$(PYTEST) -n 2 --dist loadgroup --cov --cov-report=term-missing:skip-covered tests

check-static: proto-check breaking lint types ## everything of check but the tests

check: check-static test ## what CI runs

clean: ## remove caches and build output; .venv and .run stay
	@rm -rf build dist .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
