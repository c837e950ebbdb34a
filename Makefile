# All set-up is done here: a fresh machine needs Python 3.11+ and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PAGE := examples/onnxruntime_web

.PHONY: demo docs test smoke tutorials test-browser test-executorch test-llama-cpp test-vllm lint benchmark clean

demo: $(STAMP)
	$(BIN)/limbeck demo -o runs/demo

# What comes before the tests uses one core each.
test: $(STAMP)
	$(MAKE) --jobs=2 lint docs smoke
	$(BIN)/pytest -n 2 --dist worksteal

smoke: $(STAMP)
	$(BIN)/limbeck plan recipes/smoke.yaml --no-timed
	rm -rf runs/smoke
	$(BIN)/limbeck distill recipes/smoke.yaml -o runs/smoke

# Every cell of the tutorials, with small sizes.
tutorials: $(STAMP)
	$(BIN)/pytest -p no:xdist tests/execute_tutorials.py

# The page of the browser's example in headless Chromium: needs node, npm and Debian's chromium.
test-browser: $(STAMP) $(PAGE)/node_modules
	$(BIN)/python -m pip install --quiet 'playwright>=1.50'
	$(BIN)/pytest -p no:xdist -o pythonpath=tests $(PAGE)

$(PAGE)/node_modules: $(PAGE)/package-lock.json
	npm ci --prefix $(PAGE) --ignore-scripts --no-audit --no-fund
	touch $@

# GGUF files on llama.cpp: needs a C++ compiler, which works for about five minutes on two cores.
test-llama-cpp: $(STAMP)
	CMAKE_ARGS=-DLLAVA_BUILD=OFF $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[gguf,llama-cpp]' 'llama-cpp-python[server]'
	$(BIN)/pytest -p no:xdist tests/deploy/test_llama_cpp.py tests/deploy/test_llama_server.py

# ExecuTorch files: installing takes a minute, and making those of tiny models a few.
test-executorch: $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[executorch]'
	$(BIN)/pytest -p no:xdist tests/deploy/test_executorch_files.py

# The manual as a site in runs/site; a broken link or a page that is in no menu is an error.
# Not --quiet: then warnings are not counted, and --strict passes.
docs: $(STAMP)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The student's text from vLLM itself, which is installed elsewhere: make test-vllm VLLM=/opt/vllm/bin/vllm
test-vllm: $(STAMP)
	LIMBECK_VLLM=$(VLLM) $(BIN)/pytest -p no:xdist tests/run/test_vllm_run.py

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

# The constraints keep torch and Triton at the builds that were tested; torch's has no GPU packages.
$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[demo,docs,generation,gguf,lora,onnx,openvino,quantize,ray,sentence-transformers,tensorboard,dev]'
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs
