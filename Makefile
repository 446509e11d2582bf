# `make help` says what there is. Everything is built and kept in this checkout: target/, .tools/
# and .demo/, which git ignores.

SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
export DISPATCH_NATS_SERVER ?= $(CURDIR)/.tools/bin/nats-server
export PATH := $(PATH):$(CURDIR)/.tools/bin

.DEFAULT_GOAL := help
.PHONY: help setup build demo test wasm bench sim check clean

help: ## Say what there is
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: ## Install what is missing: Debian packages, and tools into .tools/
	@bash .ci/setup

build: setup ## Build the binary `dispatch` into target/debug
	$(CARGO) build --locked --bin dispatch --bin story

demo: build ## Run the story on real parts; KEEP=1 leaves it up
	@$(TARGET)/debug/story $(if $(KEEP),--keep)

test: setup ## Run all tests
	@# Built as the tests are, so that nothing is built twice: the tests start these binaries.
	$(CARGO) build --locked --workspace --bins --tests
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
		$(CARGO) nextest run --locked --workspace --no-fail-fast; \
	else \
		$(CARGO) test --locked --workspace --no-fail-fast --lib --bins --tests; \
	fi

wasm: setup ## Build the binary `dispatch` with WebAssembly components, and test these
	$(CARGO) build --locked --bin dispatch --bin wasm-worker --features dispatch-cli/wasm,adapter-wasm/engine
	$(CARGO) test --locked -p adapter-wasm --features engine

bench: setup ## Measure, and write target/bench.json
	$(CARGO) build --locked --release --bin dispatch --bin bench --bin wasm-worker --features dispatch-cli/wasm,adapter-wasm/engine
	$(TARGET)/release/bench

sim: setup ## Tell SEEDS=n seeded stories of platform and brokers in virtual time
	$(CARGO) build --locked --release --bin sim
	$(TARGET)/release/sim --seeds $(or $(SEEDS),1000)

check: setup ## Formatting, lints, documentation, and the rules of the house
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps --quiet
	$(CARGO) test --locked --quiet --workspace --test it tidy::

clean: ## Remove what was built, and the demo
	@[ ! -x .demo/stop ] || .demo/stop
	rm -rf .demo
	$(CARGO) clean
