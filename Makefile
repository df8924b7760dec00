# `make` alone lists what there is. Needs a Rust toolchain, gcc, make and CPython 3.11+ with pip;
# everything else is put into .venv and target/.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MINUTES ?= 10
SECONDS_EACH ?= 60
ARGS ?=

# The first CPython >= 3.11; asked for only by targets that use it.
PY = $$(tools/find_python.sh)

.PHONY: help demo test bench lint docs models loom soak fuzz check-cross clean

help: ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | while IFS=$$'\t' read -r name text; do printf '  make %-12s %s\n' "$$name" "$$text"; done

demo: ## Copy a real directory tree between Rust and Python, by a ring and by calls, kill one side, finish (ARGS=path)
	@py=$(PY); exec "$$py" tools/demo.py $(ARGS)

test: ## Everything: lints, Rust, loom, wheel, Python, docs, README (ARGS="--only NAME --verbose")
	@py=$(PY); exec "$$py" tools/run_tests.py $(ARGS)

lint: ## Formatting, clippy, ruff, mypy, stubtest
	@py=$(PY); exec "$$py" tools/run_tests.py --group lint $(ARGS)

docs: ## The API documentation, into target/doc
	RUSTDOCFLAGS="-D warnings" cargo doc --no-deps

bench: ## Benchmarks and the comparison with the alternatives (ARGS go to the comparison)
	@py=$(PY); exec "$$py" tools/bench.py $(ARGS)

models: ## Check the protocol models with SPIN
	@tools/models.sh

loom: ## Model-check the atomics with loom
	@py=$(PY); exec "$$py" tools/run_tests.py --only loom $(ARGS)

soak: ## The same tests, larger and over and over, for MINUTES=10
	@py=$(PY); exec "$$py" tools/soak.py --minutes $(MINUTES)

fuzz: ## Fuzz targets for SECONDS_EACH=60 and many more cases of the property tests
	@tools/fuzz.sh $(SECONDS_EACH)

check-cross: ## Type-check for Windows and macOS (fetches a Debian compiler into target/cross)
	@tools/check_cross.sh

clean: ## Remove everything that was built or installed here
	cargo clean
	rm -rf .venv .venv-* .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
