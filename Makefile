# Every command of the project. Each target installs what it needs; the scripts beside it do the work.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help run test check bench build wasm envoy clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## build everything and start the demo: two versions, the controller and Envoy (FUNC_E=1: Envoy by func-e)
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

check: ## formatting, lints for host and wasm, docs, licences, stray files
	@.ci/check

bench: ## build for speed and run the benchmarks
	@echo '[1/3] building the filter (wasm)'
	@filter/build-wasm
	@echo '[2/3] building the controller'
	@cargo build --locked --release -p ombre-controller --bin ombre
	@echo '[3/3] measuring'
	@OMBRE_BIN=$(CURDIR)/target/release/ombre OMBRE_WASM=$(CURDIR)/target/ombre.wasm ENVOY_PATH="$$(envoy/find-envoy)" cargo run --locked --release -p ombre-bench

build: wasm ## build the filter and the programs for production
	@cargo build --locked --release -p ombre-controller --bin ombre

wasm: ## build the filter alone: target/ombre.wasm
	@.ci/tools
	@filter/build-wasm

envoy: ## install Envoy where there is none, and print its path
	@envoy/find-envoy

clean: ## remove everything that was built or installed here
	rm -rf target .tools
