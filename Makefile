# make demo    set everything up and run redis in a container
# make test    the tests (PYTEST_ARGS="-k pull", TEST_JOBS=0: one process); as root, or through sudo
# make lint    style, types, and that the stubs are those of the compiled modules
# make bench   the benchmarks (QUICK=1: in three minutes); bench-deps: installs what they compare
#              with; bench-publish: the newest result becomes README's figures (docs/benchmarks.md)
# make build   the extensions and the monitor, in place
# make clean   what was built; distclean: the virtual environment too

VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.made
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo -E)
TEST_JOBS ?= 2
PIP := $(PY) -m pip install -q --disable-pip-version-check

BUILD_PACKAGES := gcc libc6-dev linux-libc-dev musl-tools python3 python3-dev python3-venv \
	libisal-dev libzstd-dev libssl-dev ca-certificates
DEMO_PACKAGES := $(BUILD_PACKAGES) mmdebstrap iproute2 nftables procps
TEST_PACKAGES := $(DEMO_PACKAGES) docker.io docker-registry busybox-static skopeo umoci crun runc \
	libseccomp-dev zstd xz-utils
# What the benchmarks need; and their peers, without which they run too.
BENCH_PACKAGES := $(DEMO_PACKAGES) docker-registry busybox-static zstd e2fsprogs
PEER_PACKAGES := docker.io podman conmon containernetworking-plugins crun runc bubblewrap skopeo \
	qemu-system-x86 qemu-utils redis-server redis-tools strace

.PHONY: help build setup test-setup demo test test-pythons lint lint-c format wheel \
	bench bench-deps bench-publish \
	clean distclean
.DEFAULT_GOAL := help

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

# Fast when there is nothing to do: the packages are looked up, the stamp is compared, and
# setup.py compiles what changed.
setup:
	@tools/apt.sh $(BUILD_PACKAGES)
	@$(MAKE) -s --no-print-directory build

$(STAMP): pyproject.toml
	@tools/apt.sh $(BUILD_PACKAGES)
	@python=$$(PYTHON="$(PYTHON)" tools/python.sh) && echo "python: $$python" && \
		{ [ -x $(PY) ] || $$python -m venv $(VENV); }
	@$(PIP) 'setuptools>=77' wheel 'cython>=3.0.11,<4'
	@$(PIP) --no-build-isolation -e '.[test,lint,bench]'
	@touch $@

build: $(STAMP)
	@$(PY) setup.py -q build_ext --inplace build_scripts --build-dir build/client
	@cmp -s build/client/fastbox $(VENV)/bin/fastbox || \
		install -m 755 build/client/fastbox $(VENV)/bin/fastbox

test-setup:
	@tools/apt.sh $(TEST_PACKAGES)
	@$(MAKE) -s --no-print-directory build

demo:
	@tools/apt.sh $(DEMO_PACKAGES)
	@$(MAKE) -s --no-print-directory build
	@FASTBOX=$(VENV)/bin/fastbox tools/demo.sh

test: test-setup
	$(SUDO) $(PY) -m pytest -n $(TEST_JOBS) --dist loadscope --no-loadscope-reorder $(PYTEST_ARGS)

# The wheel in an empty environment of the oldest and the newest interpreter that is here;
# PYTHONS="3.10 3.12" names others.
test-pythons: test-setup
	$(SUDO) env PYTHONS="$(PYTHONS)" $(PY) -m pytest tests/packaging $(PYTEST_ARGS)

lint: setup lint-c
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(PY) tools/check_stubs.py

# Our own C, warnings as errors (what Cython generates is not held to that).
lint-c:
	@for file in $$(find fastbox/_core bench -name '*.c'); do \
		gcc -std=gnu11 -D_GNU_SOURCE -Wall -Wextra -Werror -Wno-unused-parameter -fsyntax-only \
			-Ifastbox/_core $$file || exit 1; \
	done

format:
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

bench:
	@tools/apt.sh $(BENCH_PACKAGES)
	@$(MAKE) -s --no-print-directory build
	$(SUDO) $(PY) -m bench $(if $(QUICK),--quick) $(BENCH_ARGS)

# The peers of the comparison, from the distribution's packages; none of their services is started.
bench-deps:
	@tools/apt.sh $(BENCH_PACKAGES) $(PEER_PACKAGES)
	@tools/kernel.sh bench/bin/kernel
	@$(MAKE) -s --no-print-directory build

bench-publish: build
	@$(PY) -m bench.publish $(RESULT)

wheel: build
	$(PY) -m pip wheel -q --no-deps -w dist .

clean:
	rm -rf build dist *.egg-info fastbox/_core/*.so fastbox/_core/fastbox-monitor bench/bin
	find fastbox tests bench -name __pycache__ -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
