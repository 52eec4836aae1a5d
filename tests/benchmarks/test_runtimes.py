"""Every way to run a model gives the same numbers, and is refused clearly where it cannot run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from benchmarks.floor import Peaks, floor_ms, floors, work_of
from benchmarks.latency import workload_inputs
from benchmarks.placement import Placement, check_placement, placement, read_profile
from benchmarks.runtimes.isolated import Isolated
from benchmarks.runtimes.onnxruntime import CPU, CUDA
from benchmarks.runtimes.spec import RuntimeName, Spec, open_runtime
from benchmarks.scenarios import ScenarioName, run_scenario
from benchmarks.tasks import Encoded
from compress.errors import BundleError, ProviderError
from compress.plan.workload import Workload
from export.bundle import export_bundle
from export.precision.variants import VARIANTS
from tests.families import tiny
from tests.tokenizer import tiny_tokenizer

WORKLOAD = Workload(batch=3, sequence=8)
INPUTS = workload_inputs(WORKLOAD, 99)
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="openvino is not installed"
)
needs_loadgen = pytest.mark.skipif(
    importlib.util.find_spec("mlperf_loadgen") is None, reason="loadgen is not installed"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint and its graphs."""
    folder = tmp_path_factory.mktemp("made")
    model = tiny("bert")
    model.save_pretrained(folder / "checkpoint")
    wanted = [v for v in VARIANTS if v.name in ("portable", "cpu-fp32", "cpu-int8")]
    export_bundle(model, tiny_tokenizer(), wanted, folder / "onnx")
    return folder


def spec(made: Path, runtime: RuntimeName) -> Spec:
    path = made / "checkpoint" if runtime.startswith("torch") else made / "onnx" / "portable"
    return Spec(runtime=runtime, path=path)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize(
    "runtime", ["torch", "torch-compile", pytest.param("openvino", marks=needs_openvino)]
)
def test_every_runtime_gives_the_same_logits(made: Path, runtime: RuntimeName) -> None:
    expected = open_runtime(spec(made, "onnxruntime"))(INPUTS)
    found = open_runtime(spec(made, runtime))
    assert np.allclose(found(INPUTS), expected, atol=1e-4)
    longer = workload_inputs(Workload(batch=2, sequence=12), 99)
    call = found.prepare(longer)
    assert 0 < call() < 60
    assert np.allclose(found(INPUTS), expected, atol=1e-4)


def test_a_process_of_its_own_gives_the_same_logits_and_times(made: Path) -> None:
    expected = open_runtime(spec(made, "onnxruntime"))(INPUTS)
    with Isolated(spec(made, "onnxruntime")) as apart:
        assert np.allclose(apart(INPUTS), expected, atol=1e-6)
        assert 0 < apart.prepare(INPUTS)() < 60


def test_a_process_of_its_own_tells_why_it_cannot(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="found none"):
        Isolated(Spec(runtime="onnxruntime", path=tmp_path))


def test_a_spec_survives_the_pipe(made: Path) -> None:
    own = spec(made, "torch")
    assert Spec.from_dict(own.to_dict()) == own


def test_a_cuda_graph_is_refused_where_there_is_no_device(made: Path) -> None:
    with pytest.raises((ProviderError, BundleError)):
        open_runtime(Spec(runtime="cuda-graph", path=made / "onnx" / "cpu-fp32", provider=CUDA))


def test_the_profiler_tells_where_nodes_run(made: Path) -> None:
    found = placement(made / "onnx" / "cpu-fp32", CPU, INPUTS)
    assert set(found.nodes) == {CPU}
    assert found.nodes[CPU] > 5
    assert (found.copies, found.strays) == (0, {})


def test_work_left_to_the_cpu_is_found_and_refused(tmp_path: Path) -> None:
    ran = [("Attention", CUDA), ("Shape", CPU), ("Erf", CPU), ("MemcpyToHost", CUDA)]
    events = [
        {"cat": "Node", "args": {"op_name": kind, "provider": where}} for kind, where in ran
    ] + [{"cat": "Session", "args": {}}]
    found = read_profile(events, CUDA)
    assert found == Placement(nodes={CUDA: 2, CPU: 2}, copies=1, strays={"Erf": 1})
    with pytest.raises(ProviderError, match="1 Erf, 1 Memcpy"):
        check_placement(tmp_path, found, CUDA)
    check_placement(tmp_path, read_profile(events[:2], CUDA), CUDA)


def test_the_floor_counts_the_weights_that_are_multiplied(made: Path) -> None:
    model = tiny("bert")
    inside = [p for n, p in model.bert.encoder.named_parameters() if p.dim() == 2]
    outside = [model.bert.pooler.dense.weight, model.classifier.weight]
    expected = sum(p.numel() for p in [*inside, *outside])
    for variant in ("portable", "cpu-fp32"):
        work = work_of(made / "onnx" / variant)
        assert work.products_per_token == expected
        assert work.weight_bytes == 4 * expected
    assert work.attention == (32,) * model.config.num_hidden_layers
    assert work_of(made / "onnx" / "cpu-int8").products_per_token == pytest.approx(
        expected, rel=0.1
    )


def test_the_floor_is_the_larger_of_reading_and_multiplying(made: Path) -> None:
    work = work_of(made / "onnx" / "cpu-fp32")
    read = Peaks(bytes_per_s=1e3, flops_per_s=1e30)
    multiply = Peaks(bytes_per_s=1e30, flops_per_s=1e3)
    assert floor_ms(work, WORKLOAD, read) == pytest.approx(work.weight_bytes)
    twice = Workload(batch=6, sequence=8)
    assert floor_ms(work, twice, multiply) == 2 * floor_ms(work, WORKLOAD, multiply)
    graphs = {("a", name): (made / "onnx" / name, CPU) for name in ("cpu-fp32", "cpu-int8")}
    assert {row["variant"] for row in floors(graphs, [WORKLOAD])} == {"cpu-fp32"}


@needs_loadgen
@pytest.mark.parametrize("scenario", ["single-stream", "offline", "server"])
def test_every_scenario_answers_all_and_tells_its_result(
    made: Path, scenario: ScenarioName
) -> None:
    texts = [(" ".join(["w1"] * (1 + i % 9)),) for i in range(40)]
    encoded = Encoded(texts, tiny_tokenizer(), 16)
    seen: list[int] = []
    model = open_runtime(spec(made, "onnxruntime"))

    def run(inputs: dict[str, np.ndarray]) -> object:
        seen.append(len(inputs["input_ids"]))
        return model(inputs)

    found = run_scenario(run, scenario, encoded, batch=8, bound_ms=500, seconds=0.3)  # type: ignore[arg-type]
    assert found.value > 0
    assert found.unit == ("s" if scenario == "single-stream" else "1/s")
    assert max(seen) <= 8
    if scenario == "offline":
        assert max(seen) == 8
