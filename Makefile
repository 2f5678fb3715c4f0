# make demo | test | test-long | lint | wheel | bench | clean

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUST := Cargo.toml Cargo.lock $(shell find rust -name '*.rs' -o -name Cargo.toml)
GIB_NEEDED := 12

.PHONY: demo test test-long lint wheel bench clean tools

demo: $(VENV)/.all
	$(BIN)/laborllm demo -o demo --overwrite

test: $(VENV)/.core
	RUST_TEST_THREADS=4 cargo test --workspace --quiet
	$(BIN)/pytest -m "not torch and not long"
	$(MAKE) --no-print-directory $(VENV)/.all
	$(BIN)/pytest -m "torch and not long"

test-long: $(VENV)/.all
	$(BIN)/pytest -m long

lint: $(VENV)/.all
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest laborllm._core

wheel: $(VENV)/.core
	$(BIN)/maturin build --release --sdist --out dist

bench: $(VENV)/.bench
	cargo run --release --quiet -p laborllm-core --example emit
	for name in resumes tokens packing parquet memory markov_world worlds counts logit trie trie_gpu score; do $(BIN)/python benches/bench_$$name.py || exit 1; done

clean:
	rm -rf $(VENV) target dist demo

# The package and its tests without torch: about a gigabyte.
$(VENV)/.core: pyproject.toml $(RUST) | tools
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1" "maturin>=1.16"
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[models,report]" --group test
	touch $@

# Everything: torch brings its CUDA libraries.
$(VENV)/.all: $(VENV)/.core
	$(BIN)/python -m pip install --quiet --no-build-isolation --editable ".[all]" --group test --group lint
	touch $@

# The peers of the benches.
$(VENV)/.bench: $(VENV)/.all
	$(BIN)/python -m pip install --quiet --group bench
	touch $@

tools:
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	  || { echo "missing: Python >= 3.11 with venv (set PYTHON=...)"; exit 1; }
	@command -v cargo >/dev/null || { echo "missing: a Rust toolchain (cargo, rustc >= 1.88)"; exit 1; }
	@command -v cc >/dev/null || { echo "missing: a C compiler (cc)"; exit 1; }
	@test -d $(VENV) || test "$$(df -Pk . | awk 'NR==2 {print int($$4 / 1048576)}')" -ge $(GIB_NEEDED) \
	  || { echo "missing: $(GIB_NEEDED) GB of free disk (torch with its CUDA libraries takes about 6)"; exit 1; }
