# Every target works in a fresh clone, and sets up what it needs (hack/setup.sh).
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON := .venv/bin/python
VENV := .venv/.installed
STAMPS := build/stamps
PROTOS := $(wildcard api/blixt_api/*.proto)
SHELL_SCRIPTS := .ci/run $(wildcard hack/*.sh)
C_FILES := $(wildcard bpf/*.[ch] tests/bench/*.[ch] tests/blixt_lab/*.[ch])

OBJECTS := backend/blixt_backend/objects
OBJECT_FILES := $(foreach object,blixt older sock task,$(OBJECTS)/$(object)4.bpf.o $(OBJECTS)/$(object)6.bpf.o)
CLANG ?= clang
# -mcpu=v3: atomic operations that return a value. The multiarch folder holds <asm/types.h> on Debian.
# No path of the building machine gets into the objects.
BPF_FLAGS := -O2 -g -ffile-prefix-map=$(CURDIR)=. -target bpf -mcpu=v3 -Wall -Wextra -Werror \
	-Ibpf -I/usr/include/$(shell uname -m)-linux-gnu

.DEFAULT_GOAL := help
.PHONY: help setup lint lint-python lint-types lint-layers lint-c lint-shell lint-proto fmt bpf test test-planes test-interop test-e2e demo bench bench-plots bench-flood bench-cluster bench-nftables proto clean

help: ## List the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' Makefile | expand -t 15

setup: $(VENV) $(foreach group,build lab trace bench interop lint,$(STAMPS)/$(group)) ## Bring all that the other targets need

lint: lint-python lint-types lint-layers lint-c lint-shell lint-proto ## Check style, types, layers, C, scripts, stubs

lint-python: $(VENV)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

lint-types: $(VENV)
	.venv/bin/mypy api frontend backend tests docs/example-plane $(wildcard hack/*.py)

lint-layers: $(VENV)
	.venv/bin/lint-imports

lint-c: $(STAMPS)/lint
	clang-format --dry-run -Werror $(C_FILES)

lint-shell: $(STAMPS)/lint
	shellcheck $(SHELL_SCRIPTS)

lint-proto: $(VENV)
	hack/proto.sh --check

fmt: $(VENV) $(STAMPS)/lint ## Format Python and C
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	clang-format -i $(C_FILES)

bpf: $(OBJECT_FILES) $(OBJECTS)/trace.c ## Compile the eBPF programs, once for each family

test: $(VENV) $(STAMPS)/lab $(STAMPS)/bench $(STAMPS)/trace bpf ## Run all tests but test-e2e's and test-interop's (lab and bpf tests need root)
	@echo "not among these: make test-e2e (a real control plane), make test-interop (KPNG's own programs)"
	@if [ "$$(id -u)" = 0 ]; then .venv/bin/pytest -m "not e2e and not interop" $(PYTEST_ARGS); else \
		echo "not root: the tests marked lab and bpf are not run"; \
		.venv/bin/pytest -m "not lab and not bpf and not e2e and not interop" $(PYTEST_ARGS); fi

test-planes: $(VENV) $(STAMPS)/lab bpf ## Check each plane for all that it claims, with real packets (root), and show the claims
	@.venv/bin/pytest tests/planes $(PYTEST_ARGS)
	@.venv/bin/python -m pip install --quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check \
		--upgrade --target build/example-plane docs/example-plane
	@echo
	@PYTHONPATH=build/example-plane .venv/bin/blixt-backend planes

# Only the traffic needs root, and what root would install.
test-interop: $(VENV) $(if $(filter 0,$(shell id -u)),$(STAMPS)/lab $(STAMPS)/interop) ## Run KPNG's own Go code against ours, both ways (needs Go, to build it once; root, to see it carry traffic)
	@.venv/bin/pytest tests/interop $(PYTEST_ARGS)

test-e2e: $(VENV) $(STAMPS)/lab $(STAMPS)/bench bpf ## Build a real control plane (once; needs Go), and run the tests against it
	@hack/control-plane.sh build
	@if [ "$$(id -u)" = 0 ]; then .venv/bin/pytest tests/e2e $(PYTEST_ARGS); else \
		echo "not root: the tests marked lab and bpf are not run"; \
		.venv/bin/pytest tests/e2e -m "not lab and not bpf" $(PYTEST_ARGS); fi

# Without root nothing of the lab is needed.
demo: $(VENV) $(if $(filter 0,$(shell id -u)),$(STAMPS)/lab bpf) ## Show a Gateway balance real traffic, as root over two nodes with eBPF (KEEP=1 leaves it up)
	@$(PYTHON) hack/demo.py $(if $(filter-out 0,$(KEEP)),--keep)

bench: $(VENV) $(STAMPS)/lab $(STAMPS)/bench bpf ## Measure against plain routing and kube-proxy, at up to 10,000 services (root)
	@PYTHONPATH=tests $(PYTHON) -m bench $(BENCH_ARGS)

bench-plots: $(VENV) ## Draw what the last `make bench` found into docs/bench
	@PYTHONPATH=tests $(PYTHON) -m bench.plots

bench-flood: $(VENV) $(STAMPS)/lab bpf ## Measure connections that talk beside millions of new flows from nobody (root)
	@PYTHONPATH=tests $(PYTHON) -m bench.flood

bench-cluster: $(VENV) $(STAMPS)/lab $(STAMPS)/bench ## Measure 10,000 services on a real control plane, beside kube-proxy (root)
	@hack/control-plane.sh build
	@PYTHONPATH=tests $(PYTHON) -m bench.cluster $(BENCH_ARGS)

bench-nftables: $(VENV) $(STAMPS)/lab $(STAMPS)/bench ## Measure the nftables plane beside kube-proxy's nftables mode (root)
	@hack/control-plane.sh build
	@PYTHONPATH=tests $(PYTHON) -m bench.nftables $(BENCH_ARGS)

proto: $(VENV) ## Generate the Python stubs from the proto files
	hack/proto.sh

clean: ## Remove all that was built, and the virtual environment
	find build -mindepth 1 -maxdepth 1 ! -name 'Containerfile.*' -exec rm -rf {} +
	rm -rf dist .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis $(OBJECTS)/*.bpf.o $(OBJECTS)/trace.c
	find api frontend backend tests hack -name __pycache__ -prune -exec rm -rf {} +

$(VENV): pyproject.toml constraints.txt hack/setup.sh
	@hack/setup.sh venv
	@touch $@

$(STAMPS)/%: hack/setup.sh
	@hack/setup.sh packages $*
	@mkdir -p $(@D)
	@touch $@

$(OBJECTS)/%4.bpf.o: bpf/%.bpf.c Makefile | $(STAMPS)/build
	@mkdir -p $(@D) build
	$(CLANG) $(BPF_FLAGS) -MMD -MP -MF build/$*4.d -MT $@ -c $< -o $@

$(OBJECTS)/%6.bpf.o: bpf/%.bpf.c Makefile | $(STAMPS)/build
	@mkdir -p $(@D) build
	$(CLANG) $(BPF_FLAGS) -DBLIXT_IPV6 -MMD -MP -MF build/$*6.d -MT $@ -c $< -o $@

# What is traced with is compiled on the node.
$(OBJECTS)/trace.c: bpf/trace.c
	@mkdir -p $(@D)
	cp $< $@

-include $(wildcard build/*.d)
