# `make demo` and `make test` are all the set-up a fresh machine needs.
.PHONY: help demo build test soak bench bench-goodput crowding capture onnxruntime onnxruntime-cuda
.DEFAULT_GOAL := help
TARGET := $(or $(CARGO_TARGET_DIR),target)
SEED ?= 1
SEEDS ?= 20000
KILLS ?= 200
MINUTES ?= 10

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build: ## the gate and the crowd, release build
	@.ci/prepare
	cargo build --locked --release -p tidegate-gateway -p tidegate-loadtest

demo: build ## one flash sale, without and with Tidegate; ends with a table and an HTML report
	$(TARGET)/release/tidegate-loadtest demo --gate $(TARGET)/release/tidegate --seed $(SEED) --out .demo

test: ## formatting, clippy, all tests, documentation links, dependency audit
	@.ci/test

soak: ## long runs: simulation seeds, model checks, mutations, kills under load (SEEDS=20000 KILLS=200)
	@.ci/prepare
	TIDEGATE_SEEDS=$(SEEDS) TIDEGATE_KILLS=$(KILLS) PROPTEST_CASES=20000 cargo test --locked --release --workspace -- --include-ignored
	cargo test --locked --release -p tidegate-filters --lib --features shuttle model

bench: build ## what a decision costs, and CPU per request beside bare Pingora, nginx and HAProxy
	$(TARGET)/release/tidegate-loadtest bench --gate $(TARGET)/release/tidegate --bare $(TARGET)/release/tidegate-bare
	cargo bench --locked -p tidegate-filters

bench-goodput: build ## orders under 1 to 10 times what the shop takes, beside nginx, HAProxy and Envoy (MINUTES=10)
	envoy=$$(.ci/envoy) && $(TARGET)/release/tidegate-loadtest goodput --gate $(TARGET)/release/tidegate \
	  $${envoy:+--envoy "$$envoy"} --seed $(SEED) --minutes $(MINUTES) --out .demo

crowding: build ## who gets the units when programs have 1, 4, 10 identities for each person; without scores, with them, with quotas
	$(TARGET)/release/tidegate-loadtest crowding --gate $(TARGET)/release/tidegate --seed $(SEED) --out .demo/crowding

capture: build ## labelled traffic of people, scalpers and real programs in .capture/, to train bot models on
	@.ci/capture $(TARGET)

onnxruntime: ## brings ONNX Runtime's library, so that models run on it instead of the built-in runtime
	@.ci/onnxruntime

onnxruntime-cuda: ## the same, built for CUDA, for `runtime: onnxruntime-cuda`; NVIDIA's driver, CUDA and cuDNN are yours to install
	@.ci/onnxruntime 'onnxruntime-gpu>=1.24'
