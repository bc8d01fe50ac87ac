# make demo | test | bench | lint. Each sets up a virtual environment first, without touching the
# system: .venv with ROS 2 Kilted, .venv-jazzy with ROS 2 Jazzy for the second run of the ROS tests,
# .venv-torch with PyTorch for those of weights, export and training.

PYTHON ?= python3
WORKERS ?= 2
# On Linux the default wheels of PyTorch bring gigabytes of CUDA: point pip to the CPU wheels.
TORCH ?= torch==2.13.0
# Those that need neither PyTorch, a GPU nor recorded data; `depth-node bench` lists all.
BENCHES ?= conversions geometry world_edges overhead latency cameras
SETUP := sh scripts/setup_venv.sh
STAMP := .stamp
SOURCES := setup.cfg setup.py pyproject.toml scripts/setup_venv.sh
# Each of the hundreds of processes of the tests would compile this package anew.
unexport PYTHONDONTWRITEBYTECODE
# A child of another environment must not inherit what the ROS wheels export for themselves.
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE
unexport PYTHONPATH
unexport AMENT_PREFIX_PATH

.PHONY: help demo test test-kilted test-jazzy test-torch bench lint format audit clean

help:
	@echo 'make demo         run the synthetic camera and the node for 20 s; results in demo_output/'
	@echo 'make test         lint, all tests on ROS 2 Kilted, the ROS tests on ROS 2 Jazzy'
	@echo 'make test-kilted  all tests on ROS 2 Kilted'
	@echo 'make test-jazzy   the ROS tests on ROS 2 Jazzy'
	@echo 'make test-torch   the tests that need PyTorch: weights, export, training (TORCH=torch==2.13.0)'
	@echo 'make bench        the measurements that need no data or GPU, one JSON object each'
	@echo 'make lint         ruff and mypy'
	@echo 'make format       let ruff format the code'
	@echo 'make audit        compare the installed packages with the known vulnerabilities (internet)'
	@echo 'make clean        remove virtual environments, builds and caches'
	@echo 'variables: PYTHON=python3.12 (interpreter), WORKERS=2 (parallel tests), ARGS (of the demo)'

demo: .venv/demo$(STAMP)
	@.venv/bin/depth-node demo $(ARGS)

test: lint test-kilted test-jazzy

test-kilted: .venv/test$(STAMP)
	@echo '== tests on ROS 2 Kilted'
	@.venv/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test-jazzy: .venv-jazzy/test$(STAMP)
	@echo '== ROS tests on ROS 2 Jazzy'
	@.venv-jazzy/bin/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m ros

test-torch: .venv-torch/test$(STAMP)
	@echo '== tests with PyTorch'
	@.venv-torch/bin/python -m pytest -q -n $(WORKERS) --dist worksteal $$(grep -l 'importorskip("torch"' test/*.py)

lint: .venv/test$(STAMP)
	@echo '== lint'
	@.venv/bin/ruff format --check .
	@.venv/bin/ruff check .
	@.venv/bin/mypy

format: .venv/test$(STAMP)
	@.venv/bin/ruff format .
	@.venv/bin/ruff check --fix .

audit: .venv/test$(STAMP)
	@$(PYTHON) -m venv .venv-audit && .venv-audit/bin/pip install --quiet pip-audit
	@.venv-audit/bin/pip-audit --path .venv/lib/python3.*/site-packages

bench: .venv/test$(STAMP)
	@for name in $(BENCHES); do \
	  echo "== $$name" >&2; .venv/bin/depth-node bench $$name --json || exit 1; done

clean:
	rm -rf .venv .venv-jazzy .venv-torch .venv-audit build install log dist *.egg-info demo_output
	rm -rf .pytest_cache .mypy_cache .ruff_cache .hypothesis

.venv/demo$(STAMP): $(SOURCES)
	@$(SETUP) .venv '$(PYTHON)' ros,cpu,world,demo
	@touch $@

.venv/test$(STAMP): $(SOURCES)
	@$(SETUP) .venv '$(PYTHON)' ros,cpu,world,demo,hub,test
	@touch $@ .venv/demo$(STAMP)

.venv-torch/test$(STAMP): $(SOURCES)
	@$(SETUP) .venv-torch '$(PYTHON)' cpu,world,hub,export,train,test '$(TORCH)'
	@touch $@

.venv-jazzy/test$(STAMP): $(SOURCES)
	@$(SETUP) .venv-jazzy '$(PYTHON)' jazzy,cpu,world,demo,hub,test
	@touch $@
