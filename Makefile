# One environment for every target: .venv, made by the newest interpreter from 3.11 up that actually runs.
# `make PYTHON=/path/to/python3.12 test` overrides the choice.
PYTHON ?= $(shell for p in python3.14 python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && echo $$p && break; done)
PY := .venv/bin/python
DEMO := runs/demo
EVALUATE := runs/evaluate
# Some machines tell Python to keep nothing that it compiled: then every process would compile all libraries anew.
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test fuzz newest lint bench gpu evaluate clean

# The stamp is written last: an interrupted installation starts again from nothing. What is imported is compiled when it
# first is: all of it would take half of the installation's time.
.venv/installed: requirements.txt pyproject.toml
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found; give one: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	rm -rf .venv
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt -e '.[test]'
	touch $@

demo: .venv/installed
	$(PY) train.py --config configs/ensemble.py:demo --workdir $(DEMO)/ensemble
	$(PY) train.py --config configs/mae.py:demo --workdir $(DEMO)/mae --config.data.ensemble=$(DEMO)/ensemble
	$(PY) evaluate.py --config configs/evaluate.py:demo --workdir $(DEMO)

test: .venv/installed
	$(PY) -m pytest -n 2

# Ten thousand mutations of every kind of file that is read; `make test` does 300.
fuzz: .venv/installed
	$(PY) tests/volumes/fuzz.py --count 10000

# The tests with the newest version of everything: once a week, to find what breaks before users do. See docs/supply.md.
newest:
	@test -n "$(PYTHON)" || { echo "No Python >= 3.11 found; give one: make PYTHON=/path/to/python3.11 newest" >&2; exit 2; }
	rm -rf .venv-newest
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/pip install --quiet --upgrade pip
	.venv-newest/bin/pip install --quiet --upgrade --upgrade-strategy eager -r requirements.txt -e '.[test]'
	.venv-newest/bin/pip check
	.venv-newest/bin/pip list
	.venv-newest/bin/python -m pytest -n 2

lint: .venv/installed
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

bench: .venv/installed
	$(PY) benchmarks/training_step.py
	$(PY) benchmarks/mae_speed.py
	$(PY) benchmarks/ensemble_speed.py
	$(PY) benchmarks/volume_speed.py
	$(PY) benchmarks/whole_volume.py
	$(PY) benchmarks/scaling.py
	$(PY) benchmarks/convolution.py
	$(PY) benchmarks/convolution_layers.py
	$(PY) benchmarks/layer_forms.py
	$(PY) benchmarks/attention.py
	$(PY) benchmarks/member_mapping.py

# All that is to be known of a GPU, in nine minutes a call: the same command goes on until exit code 0 (benchmarks/gpu.py).
gpu: .venv/installed
	$(PY) benchmarks/gpu.py $(GPU)

# The whole protocol with small models on phantoms. Steps give every method about as long to learn.
TRAIN = $(PY) train.py --config.data.ensemble=$(EVALUATE)/ensemble --config
evaluate: .venv/installed
	$(PY) train.py --config configs/ensemble.py:demo --workdir $(EVALUATE)/ensemble
	$(TRAIN) configs/mae.py:demo --workdir $(EVALUATE)/mae --config.steps=2200
	$(TRAIN) configs/mae_image.py:demo --workdir $(EVALUATE)/mae_image --config.steps=1200
	$(TRAIN) configs/inpainter.py:demo --workdir $(EVALUATE)/inpainter --config.steps=650
	$(TRAIN) configs/autoencoder.py:denoising_demo --workdir $(EVALUATE)/denoising --config.steps=1000
	$(TRAIN) configs/crf.py:demo --workdir $(EVALUATE)/crf
	$(PY) train.py --config configs/morphology.py:demo --workdir $(EVALUATE)/morphology
	$(PY) train.py --config configs/unrefined.py:demo --workdir $(EVALUATE)/unrefined
	$(PY) evaluate.py --config configs/evaluate.py:small --workdir $(EVALUATE)
