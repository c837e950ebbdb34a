# All set-up is done here: a fresh machine needs Python 3.10+ and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint benchmark clean

demo: $(STAMP)
	$(BIN)/limbeck demo -o runs/demo

test: $(STAMP)
	$(MAKE) lint
	$(BIN)/pytest -n 2 --dist worksteal
	$(BIN)/limbeck plan recipes/smoke.yaml --no-timed
	rm -rf runs/smoke
	$(BIN)/limbeck distill recipes/smoke.yaml -o runs/smoke

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(STAMP)
	$(BIN)/python benchmarks/relations.py
	$(BIN)/python benchmarks/objectives.py
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/mixed.py
	$(BIN)/python benchmarks/alignment.py
	$(BIN)/python benchmarks/long.py
	$(BIN)/python benchmarks/processes.py
	$(BIN)/python benchmarks/cached.py

# The constraint keeps torch at the build that was tested, without GPU packages.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,generation,gguf,lora,onnx,quantize,sentence-transformers,tensorboard,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
