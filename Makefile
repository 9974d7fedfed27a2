# Every command of the project. Each target installs what it needs; the scripts beside it do the work.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test test-envoys check bench bench-quick build wasm envoy clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build everything and start the demo: two versions, the controller and Envoy (FUNC_E=1: Envoy by func-e; XDS=1: all of Envoy by xDS)
	@echo '[1/5] tools'
	@.ci/tools
	@echo '[2/5] building the filter (wasm)'
	@filter/build-wasm
	@echo '[3/5] building the controller and the demo'
	@cargo build --locked --workspace --bins
	@echo '[4/5] finding Envoy'
	@envoy/find-envoy
	@echo '[5/5] starting'
	@export OMBRE_BIN=$(CURDIR)/target/debug/ombre OMBRE_WASM=$(CURDIR)/target/ombre.wasm ENVOY_PATH="$$(envoy/find-envoy 2>/dev/null)"; exec target/debug/ombre-demo

test: ## run every test: unit, property, wasm in Node, HTTP, real Envoy
	@.ci/test

test-envoys: ## run the routing and swap tests on every supported Envoy: 1.37 to 1.40
	@.ci/test-envoys

check: ## formatting, lints for host and wasm, docs, licences, stray files
	@.ci/check

bench: ## measure everything with a real Envoy, at most 15 minutes: bench/results/
	@bench/run

bench-quick: ## the same in a few minutes, with wider intervals
	@bench/run --quick

build: wasm ## build the filter and the programs for production
	@cargo build --locked --release -p ombre-controller --bin ombre

wasm: ## build the filter alone: target/ombre.wasm
	@.ci/tools
	@filter/build-wasm

envoy: ## install Envoy where there is none, and print its path
	@envoy/find-envoy

clean: ## remove everything that was built or installed here
	rm -rf target .tools
