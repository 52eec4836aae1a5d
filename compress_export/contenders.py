"""From what the user names to contenders: `[NAME=][RUNTIME:]PATH[@VARIANT]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import Contender, Prepare, workload_inputs
from benchmarks.placement import check_placement, placement
from benchmarks.runtimes.isolated import Isolated
from benchmarks.runtimes.onnxruntime import CPU, CUDA, TENSORRT
from benchmarks.runtimes.spec import RUNTIMES, Runtime, RuntimeName, Spec, open_runtime
from compress.errors import RecipeError
from compress.workload import Workload
from compress_export.loading import find_graph, read_config
from export.precision import VariantName

__all__ = ["PROVIDERS", "Entry", "check_whole", "contender_of", "parse_entry", "vocabulary"]

PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

_PORTABLE: VariantName = "portable"
_NAMED = re.compile(r"([\w.+-]+)=(.+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A contender as the user named it.

    Attributes:
        name: Of its own, or the path.
        variant: Of the bundle; the runtime's name where that is not ONNX Runtime.
        spec: How it is run.
        folder: With its `config.json` and tokenizer.
    """

    name: str
    variant: str
    spec: Spec
    folder: Path


def parse_entry(
    text: str, variant: str | None = None, device: str = "cpu", *, copies: bool = True
) -> Entry:
    """Read one contender.

    Args:
        text: `[NAME=][RUNTIME:]PATH[@VARIANT]`; the runtime is onnxruntime if none is named.
        variant: Of bundles that name none.
        device: Where: cpu, cuda or tensorrt.
        copies: Whether copies to and from a device are part of the time.

    Raises:
        RecipeError: The runtime or device is unknown, or they do not go together.
        BundleError: There is no model.
    """
    name, rest = text, text
    if (named := _NAMED.fullmatch(text)) and not Path(text).exists():
        name, rest = named.groups()
    runtime, place = _runtime_of(rest)
    provider = _provider(device, runtime)
    place, own = _variant_of(place, variant)
    if runtime.startswith("torch"):
        path = folder = Path(place)
        read_config(folder)
    else:
        portable = runtime.startswith("openvino") or provider == TENSORRT
        path = find_graph(Path(place), own or (_PORTABLE if portable else None))
        folder = path.parent
    label = runtime if runtime.startswith("torch") else folder.name
    if runtime not in ("onnxruntime", label):
        label = f"{label} {runtime}"
    spec = Spec(runtime=runtime, path=path, provider=provider, copies=copies)
    return Entry(name=place if name == text else name, variant=label, spec=spec, folder=folder)


def contender_of(entry: Entry, *, isolated: bool = False) -> Contender:
    """A contender as the measurement takes it, opened here or in a process of its own.

    What `torch.compile` made is kept from one opening to the next: making it takes minutes.
    """
    kept: list[Runtime] = []

    @contextmanager
    def opened() -> Iterator[Prepare]:
        if isolated:
            with Isolated(entry.spec) as apart:
                yield apart.prepare
            return
        runtime = kept[0] if kept else open_runtime(entry.spec)
        if entry.spec.runtime == "torch-compile":
            kept[:] = [runtime]
        yield runtime.prepare

    return Contender(
        name=entry.name, variant=entry.variant, provider=entry.spec.provider, open=opened
    )


def check_whole(entry: Entry) -> None:
    """Look where the nodes of a session on a device really run; a CUDA graph refuses by itself.

    Raises:
        ProviderError: Some run on the CPU.
    """
    path, provider = entry.spec.path, entry.spec.provider
    if provider == CPU or entry.spec.runtime != "onnxruntime":
        return
    inputs = workload_inputs(Workload(batch=2, sequence=8), vocabulary([entry]))
    check_placement(path, placement(path, provider, inputs), provider)


def vocabulary(entries: Sequence[Entry]) -> int:
    """Token ids that all contenders know.

    Raises:
        RecipeError: A `config.json` does not say.
    """
    return min(_vocabulary(entry.folder) for entry in entries)


def _vocabulary(folder: Path) -> int:
    size = read_config(folder).get("vocab_size")
    if not isinstance(size, int):
        raise RecipeError(
            f"{folder}/config.json must hold vocab_size, found {size!r}; export the model again"
        )
    return size


def _runtime_of(text: str) -> tuple[RuntimeName, str]:
    head, colon, rest = text.partition(":")
    for runtime in RUNTIMES:
        if colon and head == runtime:
            return runtime, rest
    if colon and re.fullmatch(r"[a-z][a-z0-9-]+", head) and not Path(text).exists():
        raise RecipeError(
            f"a contender's runtime must be one of {', '.join(RUNTIMES)}, found {head!r} in "
            f"{text!r}; correct it"
        )
    return "onnxruntime", text


def _variant_of(place: str, variant: str | None) -> tuple[str, str | None]:
    path, at, own = place.rpartition("@")
    if at and not Path(place).exists():
        return path, own
    return place, variant


def _provider(device: str, runtime: RuntimeName) -> str:
    if device not in PROVIDERS:
        raise RecipeError(
            f"--device must be {', '.join(PROVIDERS)}, found {device!r}; choose one of them"
        )
    if runtime.startswith("openvino"):
        return CPU
    if runtime == "cuda-graph" or (runtime.startswith("torch") and device != "cpu"):
        return CUDA
    return PROVIDERS[device]
