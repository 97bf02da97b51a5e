# make demo | make test | make bench | make lint: each sets up its environment by itself.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One compiled-kernel cache per checkout; tracer.kernels._jit keeps one folder per version inside it.
export NUMBA_CACHE_DIR ?= $(CURDIR)/.numba_cache
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: install demo test bench lint clean

install: $(STAMP)

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m benchmarks.demo demo

test: $(STAMP)
	$(BIN)/python -m pytest
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest tests/kernels -q -m "not slow and not jit_only"
	NUMBA_BOUNDSCHECK=1 $(BIN)/python -m pytest tests/kernels -q

bench: $(STAMP)
	$(BIN)/python -m benchmarks

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m numpydoc.hooks.validate_docstrings $$(git ls-files 'kernels/*.py' 'tracer/*.py' 'cli/*.py')
	rm -rf build/tree build/lib
	$(BIN)/python -m pip install --quiet --no-deps --target build/tree .
	cp pyproject.toml .importlinter build/tree/
	cd build/tree && $(CURDIR)/$(BIN)/mypy -p tracer
	cd build/tree && PYTHONPATH=. $(CURDIR)/$(BIN)/lint-imports

clean:
	rm -rf build .numba_cache demo bench
