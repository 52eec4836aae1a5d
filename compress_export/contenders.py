"""From what the user names to contenders: `[NAME=][RUNTIME:]PATH[@VARIANT]`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import Contender, Prepare
from benchmarks.placement import check_on_device
from benchmarks.runtimes.isolated import Isolated
from benchmarks.runtimes.onnxruntime import CPU, CUDA, TENSORRT
from benchmarks.runtimes.spec import RUNTIMES, Runtime, RuntimeName, Spec, open_runtime
from compress.errors import RecipeError
from compress_export.loading import find_graph, read_config
from export.precision.variants import VariantName

__all__ = ["PROVIDERS", "Entry", "check_whole", "contender_of", "parse_entry", "vocabulary"]

PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}

_FIRST: dict[str, tuple[VariantName, ...]] = {
    CPU: ("cpu-fp32",),
    CUDA: ("cuda-fp16", "cuda-fp32"),
    TENSORRT: ("portable",),
}
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
        path = find_graph(Path(place), own or (_PORTABLE if portable else None), _FIRST[provider])
        folder = path.parent
    half = " fp16" if runtime.startswith("torch") and provider == CUDA else ""
    label = f"{runtime}{half}" if runtime.startswith("torch") else folder.name
    if runtime != "onnxruntime" and not label.startswith(runtime):
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
    if entry.spec.runtime == "onnxruntime":
        check_on_device(entry.spec.path, entry.spec.provider, vocabulary([entry]))


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
        if device != "cpu":
            raise RecipeError(
                f"openvino runs on the cpu here, found --device {device}; leave it out"
            )
        return CPU
    if runtime == "cuda-graph" or (runtime.startswith("torch") and device != "cpu"):
        return CUDA
    return PROVIDERS[device]
