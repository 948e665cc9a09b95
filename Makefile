# heedloop: every target makes what it needs. `make demo` and `make test` are the two to know.
#   make demo     run the whole loop on this machine (ARGS="--no-serve" ends instead of serving the dashboard)
#   make test     install everything and run the tests
#   make test-shared  the tests that read real judgements and captures (HEEDLOOP_SHARED names their folder)
#   make test-failed  what failed last time again, one at a time
#   make coverage  the tests again, with the share of lines that they reach
#   make mutants   change 50 expressions at random, one at a time; lists those that no test notices
#   make docs     the documentation as a site in dist/site
#   make cluster  two shards of two replicas and two servers with docker compose (CLICKHOUSE_PASSWORD=…)
#   make serve    a server with its data in .heedloop/ and the dashboard beside it
#   make lint     ruff           make types    pyright           make bench    the benchmarks that BENCHMARKS.md reports

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt
ARGS   ?=
TESTS  ?= tests
JOBS   ?= 2

# One torch thread per test process: the processes share the cores.
TEST_ENV := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1

.PHONY: demo test test-failed test-shared mutants coverage lint types docs bench cluster serve dashboard clean browser
.DEFAULT_GOAL := test

$(BIN)/python:
	@echo "== making a virtual environment in $(VENV)"
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing heedloop with what the demo needs (a minute or two)"
	$(PIP) -e '.[demo]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing heedloop with the test tools (a minute or two)"
	$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/.demo

# Debian's chromium, for the browser tests only; installed through apt where we are root, otherwise those tests skip and say so.
browser:
	@command -v chromium >/dev/null 2>&1 || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then \
	    echo "== installing chromium for the browser tests"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; \
	  else echo "== no chromium and not root: the browser tests will be skipped"; fi; }

demo: $(VENV)/.demo
	$(BIN)/heedloop demo $(ARGS)

test: $(VENV)/.dev browser
	$(TEST_ENV) $(BIN)/pytest $(TESTS) -n $(JOBS) --dist loadfile --no-loadscope-reorder --durations=15 $(ARGS)

# What failed in the last run, in one process: tells a fault from a machine that was too busy.
test-failed: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/pytest $(TESTS) -n 1 --dist loadfile --no-loadscope-reorder --last-failed --last-failed-no-failures none $(ARGS)

# Apart from `test`: measuring takes half as long again as testing.
coverage: $(VENV)/.dev browser
	$(TEST_ENV) $(BIN)/pytest $(TESTS) -n $(JOBS) --dist loadfile --no-loadscope-reorder --cov --cov-report= $(ARGS)
	$(BIN)/coverage report --skip-covered --format=total | xargs -I{} echo "coverage: {} %"
	$(BIN)/coverage report --fail-under=$(FLOOR) >/dev/null || { $(BIN)/coverage report | tail -40; echo "coverage is below the floor of $(FLOOR) %"; exit 1; }

test-shared: $(VENV)/.dev
	@test -d "$$HEEDLOOP_SHARED/data" || { echo "HEEDLOOP_SHARED names no folder with data/"; exit 1; }
	$(TEST_ENV) $(BIN)/pytest $(TESTS) -m shared -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

# The share of lines and branches that the tests must reach, in percent.
FLOOR := 80

# Change 50 expressions at random, one at a time, and list those that no test notices; hours rather than minutes.
mutants: $(VENV)/.dev
	$(TEST_ENV) $(BIN)/python tests/tools/mutation_sample.py $(ARGS)

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright

docs: $(VENV)/.dev
	$(PIP) -q -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "== the site is in dist/site; open dist/site/index.html"

bench: $(VENV)/.dev
	@for b in $(sort $(wildcard benchmarks/*.py)); do echo "== $$b"; $(BIN)/python $$b || exit 1; done

cluster:
	docker compose -f deploy/cluster/docker-compose.yml up --build --wait $(ARGS)
	@docker compose -f deploy/cluster/docker-compose.yml exec server-1 cat /data/first-key || docker compose -f deploy/cluster/docker-compose.yml exec server-2 cat /data/first-key

serve: $(VENV)/.demo
	$(BIN)/heedloop serve $(ARGS)

dashboard: $(VENV)/.demo
	$(BIN)/heedloop dashboard $(ARGS)

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis htmlcov .coverage .coverage.* build dist
