"""What may start where: resources, and devices that are idle when something is measured."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compress_export.sweep import executor
from compress_export.sweep.devices import Uses, by_identity, holding, uses_of
from compress_export.sweep.schedule import Node, Order, Place, Schedule

NODES = (
    Node(name="a", kind="small", cpus=4, memory_gb=16),
    Node(name="b", kind="large", cpus=8, gpus=2, memory_gb=64),
)


def orders(number: int, measures: bool, device: str, gpus: float | None, memory: float) -> Order:
    return Order(
        run=f"run-{number}",
        step="bench" if measures else "prune",
        measures=measures,
        device=device,
        gpus=gpus,
        memory_gb=memory,
    )


ORDER = st.builds(
    orders,
    number=st.integers(0, 10**9),
    measures=st.booleans(),
    device=st.sampled_from(["cpu", "cuda"]),
    gpus=st.sampled_from([None, 0, 0.5, 1]),
    memory=st.sampled_from([0.0, 10.0]),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(ORDER, min_size=2, max_size=40, unique_by=lambda o: o.run),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_what_measures_never_shares_its_device(
    waiting: list[Order], jobs: int, random: object
) -> None:
    """A simulated sweep: any order ends at any time; 60 × up to 40 orders, all of them run."""
    schedule, running, done = Schedule(jobs), dict[str, tuple[Order, Place]](), 0
    left, total = list(waiting), len(waiting)
    while left or running:
        for order, place in schedule.pick(left, NODES):
            left.remove(order)
            running[order.run] = (order, place)
        assert running, "nothing starts though everything is idle"
        _check(list(running.values()))
        order, _ = running.pop(random.choice(sorted(running)))  # type: ignore[attr-defined]
        schedule.end(order)
        done += 1
    assert done == total


def _check(running: list[tuple[Order, Place]]) -> None:
    for node in NODES:
        there = [(o, p) for o, p in running if p.node == node.name]
        assert sum(p.cpus for _, p in there) <= node.cpus + 1e-6
        assert sum(o.memory_gb for o, _ in there) <= node.memory_gb
        shares: Counter[int | None] = Counter()
        for _, place in there:
            shares[place.gpu] += place.gpu_share  # type: ignore[assignment]
        assert all(shares[index] <= 1 + 1e-6 for index in range(node.gpus))
        for order, place in there:
            if not order.measures:
                continue
            device = "cpu" if order.device == "cpu" else f"gpu-{place.gpu}"
            assert place.uses[device] == "alone"
            others = [p for o, p in there if o is not order and device in p.uses]
            assert others == [], "a measurement shares its device"


def test_work_goes_first_then_what_measures() -> None:
    schedule = Schedule(2)
    measured = Order(run="m", step="bench", measures=True)
    work = [Order(run=f"w{i}", step="prune") for i in range(2)]
    node = NODES[:1]
    assert [o.run for o, _ in schedule.pick([measured, *work], node)] == ["w0", "w1"]
    schedule.end(work[0])
    assert schedule.pick([measured], node) == []
    schedule.end(work[1])
    ((order, place),) = schedule.pick([measured], node)
    assert (order, place.cpus) == (measured, 4)


def test_once_many_wait_to_be_measured_work_waits() -> None:
    schedule, node = Schedule(2), NODES[:1]
    waiting = [Order(run=f"m{i}", step="bench", measures=True) for i in range(16)]
    work = Order(run="w", step="prune")
    begun = Order(run="begun", step="prune")
    assert schedule.pick([begun], node)
    assert schedule.pick([*waiting, work], node) == [], "it waits for what has begun"
    schedule.end(begun)
    while waiting:
        ((order, _),) = schedule.pick([*waiting, work], node)
        assert order is waiting.pop(0)
        schedule.end(order)
    assert [o.run for o, _ in schedule.pick([work], node)] == ["w"]


def test_only_runs_that_are_all_but_done_hold_work_up() -> None:
    schedule, node = Schedule(1), NODES[:1]
    first = [Order(run=f"p{i}", step="prune", measures=True) for i in range(40)]
    work = Order(run="w", step="recover")
    lost = [Order(run=f"m{i}", step="bench", measures=True, kind="gone") for i in range(40)]
    assert [o.run for o, _ in schedule.pick([*first, *lost, work], node)] == ["w"]
    assert schedule.pick([Order(run="m", step="bench", measures=True)], ()) == []


def test_work_goes_where_none_is_measured() -> None:
    schedule = Schedule(1)
    waiting = [Order(run=f"m{i}", step="bench", measures=True, kind="small") for i in range(2 * 16)]
    started = schedule.pick([*waiting, Order(run="w", step="prune")], NODES)
    assert {o.run: p.node for o, p in started} == {"m0": "a", "w": "b"}


def test_nodes_are_avoided_and_kinds_kept() -> None:
    schedule = Schedule(1)
    order = Order(run="r", step="prune", avoid=frozenset({"a"}))
    assert schedule.pick([order], NODES)[0][1].node == "b"
    only = Order(run="s", step="prune", kind="small")
    assert schedule.pick([only], NODES)[0][1].node == "a"
    nowhere = Order(run="t", step="prune", kind="small", avoid=frozenset({"a"}))
    assert schedule.never_fits(nowhere, NODES)
    assert schedule.never_fits(Order(run="u", step="prune", cpus=9), NODES)
    assert schedule.never_fits(Order(run="v", step="prune", gpus=1), NODES[:1])


def test_uses_of_devices() -> None:
    assert uses_of(measures=False, device="cpu", gpu_index=None) == {"cpu": "shared"}
    assert uses_of(measures=True, device="cpu", gpu_index=None) == {"cpu": "alone"}
    assert uses_of(measures=False, device="cpu", gpu_index=1) == {
        "cpu": "shared", "gpu-1": "shared",
    }  # fmt: skip


def _use(uses: Uses, folder: str, log: str, number: int, seconds: float) -> None:
    """Hold a token, and write down when it was had and when it was given back."""
    with holding(uses, Path(folder)):
        began = time.monotonic()
        time.sleep(seconds)
        ended = time.monotonic()
        (Path(log) / f"{number}").write_text(f"{uses['cpu']} {began} {ended}")


def test_tokens_hold_between_processes(tmp_path: Path) -> None:
    """200 pairs of stages that could share a device, from 8 processes: none of them do."""
    locks, log = tmp_path / "locks", tmp_path / "log"
    log.mkdir()
    stages: list[Uses] = [{"cpu": "alone" if i % 2 else "shared"} for i in range(24)]
    with multiprocessing.get_context("spawn").Pool(8) as pool:
        jobs = [(use, str(locks), str(log), i, 0.01) for i, use in enumerate(stages)]
        pool.starmap(_use, jobs, chunksize=1)
    held = [file.read_text().split() for file in log.iterdir()]
    spans = [(use, float(began), float(ended)) for use, began, ended in held]
    assert len(spans) == len(stages)
    pairs = 0
    for i, (use, began, ended) in enumerate(spans):
        for other, start, end in spans[:i]:
            if "alone" in (use, other):
                pairs += 1
                assert ended <= start or end <= began
    assert pairs >= 200


def test_a_token_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    holder = context.Process(target=_use, args=({"cpu": "alone"}, str(tmp_path), "", 0, 60.0))
    holder.start()
    deadline = time.monotonic() + 60
    while not (tmp_path / "cpu.db").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    holder.kill()
    holder.join()
    with holding({"cpu": "alone"}, tmp_path):
        pass
    assert (tmp_path / "cpu.db").exists()


@pytest.mark.parametrize("share", [0.5, 0.25])
def test_shares_of_a_gpu(share: float) -> None:
    schedule = Schedule(8)
    work = [Order(run=f"r{i}", step="recover", gpus=share) for i in range(9)]
    started = schedule.pick(work, NODES)
    assert len(started) == min(2 / share, 8)
    full = Counter(place.gpu for _, place in started)
    assert set(full.values()) == {1 / share}


@pytest.mark.parametrize(
    ("seen", "gpu", "expected"),
    [(None, 1, "1"), ("5,7", 1, "7"), ("GPU-a,GPU-b", 0, "GPU-a"), ("5,7", None, "")],
)
def test_a_process_sees_its_own_of_the_gpus_that_the_user_shows(
    seen: str | None, gpu: int | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "calm", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    if seen is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", seen)
    executor._settle(gpu)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected


def test_a_gpu_has_one_token_whatever_a_sweep_calls_it() -> None:
    assert by_identity({"cpu": "shared", "gpu-1": "alone"}, "gpu-abc") == {
        "cpu": "shared", "gpu-abc": "alone",
    }  # fmt: skip
    assert by_identity({"cpu": "alone"}, None) == {"cpu": "alone"}
