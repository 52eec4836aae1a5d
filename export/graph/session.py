"""Open a graph in ONNX Runtime, on the provider that was asked for or not at all."""

from __future__ import annotations

import ctypes
import io
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime

from compress.errors import BundleError, ProviderError

__all__ = ["CPU", "CUDA", "TENSORRT", "cuda_available", "open_session", "usable_cores"]

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"


def open_session(
    graph: Path,
    provider: str = CPU,
    threads: int | None = None,
    settings: Mapping[str, str] | None = None,
    profile: Path | None = None,
) -> onnxruntime.InferenceSession:
    """A session on one provider.

    Args:
        graph: The ONNX file.
        provider: `CPUExecutionProvider`, `CUDAExecutionProvider` or `TensorrtExecutionProvider`.
        threads: Threads of the CPU provider. Default: all cores that the process may use.
        settings: Settings of the provider, as ONNX Runtime names them.
        profile: Start of the file that its profiler is to write, if it is to.

    Raises:
        BundleError: There is no graph, or ONNX Runtime cannot read it.
        ProviderError: ONNX Runtime opened the session on another provider. It does so with no more
            than a log line where CUDA's libraries or the device are missing.
    """
    if not graph.is_file():
        raise BundleError(f"{graph} must be an ONNX file, found none; export the model first")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads or usable_cores()
    # An idle session's threads spin on for a while and would slow whichever contender is next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    if provider != CPU:
        _prepare_cuda(graph, provider)
    providers: list[tuple[str, dict[str, str]]] = [(provider, dict(settings or {}))]
    if provider == TENSORRT:
        providers.append((CUDA, {}))  # for the nodes that TensorRT leaves
    try:
        # Its own fallback would go on on the CPU, with a line on stdout.
        session = onnxruntime.InferenceSession(
            graph, options, providers=providers, enable_fallback=False
        )
    except Exception as error:  # ONNX Runtime raises its own types, which share no base
        raise BundleError(
            f"{graph} must open in ONNX Runtime, found: {' '.join(str(error).split())[:200]}"
        ) from error
    found = session.get_providers()[0]
    if found != provider:
        raise ProviderError(
            f"{graph} must run on {provider}, found a session on {found}; check the device with "
            "`compress-export doctor`, or ask for a cpu variant"
        )
    return session


def cuda_available() -> bool:
    """Whether a CUDA device answers; that ONNX Runtime lists the provider does not say so."""
    return CUDA in onnxruntime.get_available_providers() and _n_devices() > 0


def _prepare_cuda(graph: Path, provider: str) -> None:
    if provider not in onnxruntime.get_available_providers() or not cuda_available():
        raise ProviderError(
            f"{graph} must run on {provider}, found no CUDA device that answers; check it with "
            "`compress-export doctor`, or use the cpu provider"
        )
    with redirect_stdout(io.StringIO()):  # `doctor` tells better what is missing
        onnxruntime.preload_dlls()


def _n_devices() -> int:
    """CUDA devices, asked of the driver itself: torch may be a CPU build."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
