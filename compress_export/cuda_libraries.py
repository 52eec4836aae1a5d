"""Which of CUDA's libraries ONNX Runtime's provider lacks, and where to get them."""

from __future__ import annotations

import ctypes
import io
import os
import re
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime

__all__ = ["first_missing", "missing_libraries", "remedy"]

_SHARED = "libonnxruntime_providers_shared.so"
_PROVIDERS = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
_PACKAGES = {
    "cudart": "nvidia-cuda-runtime",
    "cublas": "nvidia-cublas",
    "cublasLt": "nvidia-cublas",
    "cufft": "nvidia-cufft",
    "curand": "nvidia-curand",
    "nvrtc": "nvidia-cuda-nvrtc",
    "cudnn": "nvidia-cudnn-cu13",
    "nvinfer": "tensorrt",
    "nvonnxparser": "tensorrt",
}


def missing_libraries(provider: str) -> str | None:
    """The first library that the provider does not find, by its file name, or what else is wrong.

    ONNX Runtime itself only logs this, and runs on the CPU. Known on Linux alone.

    Args:
        provider: ONNX Runtime's name.
    """
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = folder / _PROVIDERS[provider]
    if os.name != "posix" or not library.is_file():
        return None
    with redirect_stdout(io.StringIO()):  # it prints what is told better below
        onnxruntime.preload_dlls()
    try:
        ctypes.CDLL(str(folder / _SHARED), mode=ctypes.RTLD_GLOBAL)
        ctypes.CDLL(str(library))
    except OSError as error:
        return first_missing(str(error)) or str(error)
    return None


def first_missing(message: str) -> str | None:
    """The library that a loader's message names."""
    found = re.match(r"([\w.+-]+\.so[\w.]*): cannot open", message)
    return found.group(1) if found else None


def remedy(library: str) -> str:
    """What to install for a library."""
    name = re.match(r"lib(\w+)\.so", library)
    package = _PACKAGES.get(name.group(1) if name else "")
    if package == "tensorrt":
        return "pip install tensorrt"
    extra = "pip install 'onnxruntime-gpu[cuda,cudnn]', of the same version"
    return f"{extra} ({package})" if package else extra
