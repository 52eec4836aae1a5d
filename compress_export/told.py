"""What a training tells on its way: step, loss and its parts, metric, time left, on stderr."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback

from compress_export.console import note

__all__ = ["Told"]

_LINES = 20
"""Lines a training, at most."""


class Told(TrainerCallback):
    """Prints a line at every twentieth of a training, and at every look at held-out examples."""

    def __init__(self) -> None:
        self._start, self._first, self._last = 0.0, 0, 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin to count the time."""
        self._start, self._first, self._last = time.perf_counter(), state.global_step, -1
        if state.is_world_process_zero and state.global_step:
            note(f"going on from step {state.global_step} of {state.max_steps}")

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Say so if it has not gone to the end."""
        if state.is_world_process_zero and state.global_step < state.max_steps:
            note(f"stopped early, after step {state.global_step} of {state.max_steps}")

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Tell what is new."""
        logs = logs or {}
        if not state.is_world_process_zero or state.global_step == self._first:
            return
        due = state.global_step * _LINES // max(state.max_steps, 1)
        if "eval_metric" in logs:
            note(f"step {state.global_step}: metric {logs['eval_metric']:.4f}, held out")
        elif "loss" in logs and due != self._last:
            self._last = due
            parts = [
                f"{name.removeprefix('loss_')} {value:.4g}"
                for name, value in logs.items()
                if name.startswith("loss")
            ]
            note(
                f"step {state.global_step}/{state.max_steps}: {', '.join(parts)}; "
                f"{self._left(state)} left"
            )

    def _left(self, state: Any) -> str:
        each = (time.perf_counter() - self._start) / (state.global_step - self._first)
        seconds = round(each * (state.max_steps - state.global_step))
        return f"{seconds // 60} min" if seconds >= 120 else f"{seconds} s"
