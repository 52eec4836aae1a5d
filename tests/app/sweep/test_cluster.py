"""A sweep on a Ray cluster of local nodes, one of which is taken away."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from compress.errors import RecipeError
from compress_export.stages import file_hashes
from compress_export.sweep.ledger import open_sweep
from export.graph.session import usable_cores
from tests.app.sweep.project import write_project
from tests.app.sweep.test_sweep import wait_for
from tests.app.test_pipeline import cli

cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def cluster() -> Any:
    found = cluster_utils.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield found
    found.shutdown()


def test_a_lost_node_costs_the_step_it_was_at(cluster: Any, tmp_path: Path) -> None:
    """Two nodes, one removed while it works: all runs finish, equal to those of this machine."""
    write_project(tmp_path)
    arguments = [sys.executable, "-m", "compress_export", "sweep", "run",
                 str(tmp_path / "sweep.yaml"), "-o"]  # fmt: skip
    doomed = cluster.add_node(num_cpus=1)
    with (tmp_path / "log").open("w") as log:
        ray = ["--executor", "ray", "--address", cluster.address]
        work = subprocess.Popen(
            [*arguments, str(tmp_path / "ray"), "--jobs", "1", *ray], stderr=log
        )
        wait_for(lambda: len(list((tmp_path / "ray" / "runs").glob("*.partial"))) == 2)
        cluster.remove_node(doomed, allow_graceful=False)
        assert work.wait(400) == 0, (tmp_path / "log").read_text()
    assert "begun again from there" in (tmp_path / "log").read_text()
    cores = str(usable_cores())  # one core a step, as the nodes have: threads decide rounding
    local = [*arguments, str(tmp_path / "local"), "--jobs", cores]
    assert subprocess.run(local, check=False).returncode == 0
    runs = open_sweep(tmp_path / "ray").entries
    assert [entry.state for entry in runs.values()] == ["done", "done"]
    assert runs.keys() == open_sweep(tmp_path / "local").entries.keys()
    for run in runs:
        first, second = (tmp_path / name / "runs" / run for name in ("ray", "local"))
        parts = [[folder / part for part in ("checkpoint", "onnx", "plan.json")]
                 for folder in (first, second)]  # fmt: skip
        assert file_hashes(parts[0], first) == file_hashes(parts[1], second)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://localhost:{}", "auto"])
def test_a_cluster_that_does_not_answer_is_named(
    address: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_project(tmp_path)
    import ray

    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = address.format(listening.getsockname()[1])

    def refuse(**_: object) -> None:
        assert address == "auto", "nobody is asked where nobody listens"
        raise ConnectionError("Could not find any running Ray instance.")

    monkeypatch.setattr(ray, "init", refuse)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    arguments = ["sweep", "run", str(tmp_path / "sweep.yaml"), "-o", str(tmp_path / "out")]
    arguments += ["--executor", "ray"]
    assert cli([*arguments, "--address", address]) == 2
    told = f"--address must be a Ray cluster that answers, found {address!r}"
    assert told in capsys.readouterr().err
    monkeypatch.setenv("RAY_ADDRESS", address)
    assert cli(arguments) == 2
    assert told in capsys.readouterr().err


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from compress_export.sweep.cluster import RayExecutor

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match="needs the extra `ray`"):
        RayExecutor(None)
