"""What a run has to do with an earlier one: its folder, its identity, what it promised."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from compress.plan.workload import Mix
from compress_export.context import Context
from compress_export.goal import Goal
from compress_export.loading import local_folder
from compress_export.stages import content_key, file_hashes

__all__ = ["copy_earlier", "identity_of", "promise_facts"]

_HIDDEN = ".compress-export."
_SEALS = ("manifest.json", "report.json", "report.md", "report.html")


def copy_earlier(out: Path, work: Path) -> None:
    """Copy a finished run to where the next one works, without what says that it is finished.

    Latency and memory of an inconclusive run are left out, so that they are measured again.
    """
    work.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=_HIDDEN, dir=work.parent) as temporary:
        copy = Path(temporary) / "copy"
        shutil.copytree(out, copy, ignore=shutil.ignore_patterns(f"{_HIDDEN}*"))
        if _verdict(copy) == "inconclusive":
            (copy / "stages" / "latency.json").unlink(missing_ok=True)
        for name in _SEALS:
            (copy / name).unlink(missing_ok=True)
        copy.rename(work)


def _verdict(run: Path) -> str | None:
    try:
        report = json.loads((run / "report.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return report.get("verdict") if isinstance(report, dict) else None


def identity_of(context: Context) -> dict[str, str]:
    """Hashes of the teacher's weights and of the validation data, for comparing reports."""
    folder = local_folder(context.model_source)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    weights = file_hashes(files, folder) if files else {"source": context.model_source}
    return {
        "anchor": content_key(weights),
        "data": context.dataset("validation").content_hash(),
    }


def promise_facts(goal: Goal, mix: Mix, reached: dict[str, Any]) -> dict[str, Any]:
    """A promised latency as the report tells it, with its attempts and its proof."""
    shares = [{"batch": w.batch, "sequence": w.sequence, "share": s} for w, s in mix.shares]
    target = {"speedup": goal.speedup, "latency_ms": goal.latency_ms, "mix": shares}
    return target | reached
