"""Make a peer's ONNX of a teacher, in an environment of the peer's own.

python benchmarks/peers/make.py PEER TEACHER OUT [SHARE] [TEXTS]

SHARE is what pruning peers keep; TEXTS a file, one a line, for those that look at data.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
TORCH = "torch>=2.9,<2.14"
PACKAGES: dict[str, tuple[str, ...]] = {
    "plain": (),
    "optimum": ("optimum-onnx[onnxruntime]>=0.1", "transformers>=4.57,<4.58", TORCH),
    "onnxsim": ("onnxsim>=0.8", "onnxruntime"),
    "torch-pruning": ("torch-pruning>=1.6", "transformers>=5.23", "onnx", "onnxscript", TORCH),
    "textpruner": ("numpy", "pandas", "transformers>=4.57,<4.58", "onnx", "onnxscript", TORCH),
    "olive": ("olive-ai", "requests", "onnxruntime", "onnx", "onnxscript", "transformers<5", TORCH),
}
WITHOUT_DEPENDENCIES = {"textpruner": ("textpruner",)}  # theirs no longer build
BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
          "vocab.txt")  # fmt: skip


def main(peer: str, teacher: str, out: str, share: str = "0.5", texts: str = "") -> None:
    """Make the environment if there is none, and run the peer's script in it."""
    if peer not in PACKAGES:
        raise SystemExit(f"the peer must be one of {', '.join(PACKAGES)}, found {peer!r}")
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    script = HERE / f"{peer.replace('-', '_')}_peer.py"
    command = [str(python_of(peer)), str(script), teacher, str(folder / "model.onnx"), share, texts]
    subprocess.run(command, check=True)
    for name in BESIDE:
        if (Path(teacher) / name).is_file():
            shutil.copy(Path(teacher) / name, folder)


def python_of(peer: str) -> Path:
    """The interpreter of the peer's environment; this one's own where it needs no packages."""
    if not PACKAGES[peer]:
        return Path(sys.executable)
    place = HERE / ".environments" / peer
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.exists():
        venv.create(place, with_pip=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *PACKAGES[peer]]
        subprocess.run(install, check=True)
        bare = WITHOUT_DEPENDENCIES.get(peer)
        if bare:
            subprocess.run([*install[:5], "--no-deps", *bare], check=True)
        ready.touch()
    return python


if __name__ == "__main__":
    main(*sys.argv[1:])
