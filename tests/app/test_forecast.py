"""What a dry run foretells: every step that will be done, more for more work, nothing written."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from compress.checkpoint.checkpoint import load
from compress.model.binding import bind
from compress.model.surgery import apply_
from compress.streamed import load_mapped
from compress_export.context import Context
from compress_export.forecast import Forecast, forecast
from compress_export.forecast.memory import peak_bytes, stack_bytes
from compress_export.forecast.rates import Rates
from compress_export.forecast.seconds import step_seconds
from compress_export.forecast.work import Work, work_of
from compress_export.recipe import load_recipe, make_recipe
from compress_export.stages import STEPS
from export.layer_stacks import stack_plan, stack_sizes
from tests.app.test_pipeline import cli, write_project

RATES = Rates(forward=1e-5, product=2e-11, factor=5e-11, pace=1.0)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("forecast"))


def work(project: Path, **changes: object) -> Work:
    """What the recipe asks for, with parts of it changed."""
    recipe = yaml.safe_load((project / "recipe.yaml").read_text()) | changes
    context = Context(make_recipe(recipe), project)
    return work_of(context, RATES, STEPS)


def seconds(project: Path, **changes: object) -> dict[str, float]:
    return dict(step_seconds(work(project, **changes), RATES))


def test_every_step_that_will_be_done_is_told(project: Path) -> None:
    assert list(seconds(project)) == ["prune", "export", "evaluate", "bench"]
    taught = seconds(project, recover={"epochs": 3})
    assert list(taught) == list(STEPS)
    assert taught["recover"] == pytest.approx(
        3 * seconds(project, recover={"epochs": 1})["recover"]
    )


@pytest.mark.parametrize(
    ("step", "less", "more"),
    [
        ("prune", {"prune": {"score": "magnitude"}}, {"prune": {"score": "fisher"}}),
        ("prune", {"prune": {"score": "fisher", "steps": 1}}, {"prune": {"score": "fisher"}}),
        ("prune", {"prune": {"trials": 0}}, {"prune": {"trials": 9}}),
        (
            "prune",
            {"prune": {"score": "magnitude", "steps": 1}},
            {"prune": {"score": "kprune"}},
        ),
        ("prune", {"target": {"macs": 0.5}}, {"target": {"speedup": 2.0}}),
        ("export", {"export": {"variants": ["cpu-fp32"]}}, {}),
        ("bench", {"benchmark": {"sequences": [8]}}, {"benchmark": {"sequences": [8, 16]}}),
    ],
)
def test_more_work_takes_longer(
    project: Path, step: str, less: dict[str, object], more: dict[str, object]
) -> None:
    assert seconds(project, **less)[step] < seconds(project, **more)[step]


def test_a_stack_has_the_bytes_of_its_weights(project: Path) -> None:
    model = load(project / "teacher")
    layout = bind(model)
    for stack in stack_sizes(layout.shape):
        student = copy.deepcopy(model)
        apply_(student, stack_plan(layout, stack))
        weights = 4 * sum(p.numel() for p in student.parameters())
        assert stack_bytes(stack, work(project)) == weights


def test_a_target_in_time_has_its_stacks_in_memory_at_once(project: Path) -> None:
    targets: list[dict[str, float]] = [{"macs": 0.5}]
    targets += [{"speedup": 2.0, "batch": batch, "sequence": 16} for batch in (1, 4096)]
    share, one, many = (
        peak_bytes(replace(work(project, target=target), steps=("prune",))) for target in targets
    )
    assert share <= one < many


def test_tokens_are_counted(project: Path) -> None:
    found = work(project, recover={"epochs": 1, "batch_size": 16})
    assert found.updates == 80 // 16
    assert 80 * 4 <= found.training <= 80 * 16
    assert found.longest <= 16
    assert found.share == 0.5


def test_a_goal_in_milliseconds_is_a_share_of_what_the_model_takes(project: Path) -> None:
    half = work(project, target={"speedup": 2.0})
    quarter = work(project, target={"speedup": 4.0})
    slow = work(project, target={"latency_ms": 1e6})
    assert (half.share, quarter.share, slow.share) == (0.5, 0.25, 1.0)


def test_what_a_gpu_does_is_not_told(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    found = forecast(Context(load_recipe(project / "recipe.yaml"), project))
    assert found.untold == ["recover", "evaluate", "bench"]
    assert list(found.seconds) == ["prune", "export"]
    assert str(found).endswith("without recover, evaluate, bench on the GPU")


def test_streaming_holds_less(project: Path) -> None:
    recipe = load_recipe(project / "recipe.yaml")
    found = [
        forecast(Context(recipe, project, reader), ["prune"], streamed=streamed)
        for reader, streamed in ((load, False), (lambda s: load_mapped(Path(s)), True))
    ]
    assert found[1].peak_bytes <= found[0].peak_bytes
    assert all(list(f.seconds) == ["prune"] for f in found)


def test_a_dry_run_tells_time_and_memory(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, out = str(project / "recipe.yaml"), project / "out"
    assert cli(["run", recipe, "--out", str(out), "--dry-run"]) == 0
    assert "forecast: about" in capsys.readouterr().out
    assert cli(["run", recipe, "--out", str(out), "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["forecast"]
    assert told["total_seconds"] == pytest.approx(sum(told["seconds"].values()), abs=0.5)
    assert told["peak_bytes"] > 0
    assert not out.exists()


def test_a_forecast_speaks_in_round_figures() -> None:
    found = Forecast(seconds={"prune": 600.0, "bench": 240.0}, peak_bytes=6_000_000_000)
    assert str(found) == "about 14 minutes, 6.0 GB"
