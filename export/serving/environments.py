"""Where a stack's probe runs: this interpreter, one that the user names, or one made for it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compress.errors import RecipeError
from export.serving.stack import Stack

__all__ = ["Environment", "find_environment"]

_READY = "ready"
_NOT_PASSED_ON = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True, kw_only=True, slots=True)
class Environment:
    """An interpreter and its packages.

    Attributes:
        program: Python, or Node.
        folder: A folder with Node's packages.
    """

    program: str
    folder: Path | None = None

    def command(self, probe: Path, request: Path, answer: Path) -> list[str]:
        """How to run a probe; for Node it lies beside the request, packages linked there."""
        if self.folder is not None and probe.suffix == ".mjs":
            here = request.parent
            for script in probe.parent.glob("*.mjs"):
                shutil.copy(script, here / script.name)
            (here / "node_modules").symlink_to(self.folder / "node_modules")
            probe = here / probe.name
        return [self.program, str(probe), str(request), str(answer)]

    def variables(self) -> dict[str, str]:
        """Its process's environment: nothing is downloaded, nothing of ours is imported."""
        kept = {k: v for k, v in os.environ.items() if k not in _NOT_PASSED_ON}
        offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "TQDM_DISABLE": "1"}
        node = {} if self.folder is None else {"NODE_FOLDER": str(self.folder)}
        return kept | offline | node


def find_environment(
    stack: Stack,
    *,
    given: str | None,
    install: bool,
    told: Callable[[str], None] = lambda _: None,
) -> Environment:
    """Where to run a stack's probe.

    Args:
        stack: Whose.
        given: A Python, or for Node a folder with `node_modules`.
        install: Whether to make an environment in the cache where there is none.
        told: Given a line before anything is installed.

    Raises:
        RecipeError: What is needed is nowhere, and is not to be installed.
    """
    if _for_node(stack):
        return _node(stack, given, install, told)
    if given is not None:
        return _checked(stack, given)
    if _imports(sys.executable, stack.modules):
        return Environment(program=sys.executable)
    python = _cache(stack) / "bin" / "python"
    if not ((_cache(stack) / _READY).is_file() and python.exists()):
        if not install:
            raise _missing(stack, "`python`, an interpreter that has them,")
        told(f"installing {', '.join(stack.packages)} into {_cache(stack)}")
        venv.create(_cache(stack), with_pip=True, clear=True)
        _run([str(python), "-m", "pip", "install", "--quiet", *stack.packages], stack)
        (_cache(stack) / _READY).touch()
    return Environment(program=str(python))


def _checked(stack: Stack, python: str) -> Environment:
    found = shutil.which(python)
    program = python if found is None else str(Path(found).absolute())
    if not _imports(program, stack.modules):
        raise RecipeError(
            f"`python` must be an interpreter that imports {', '.join(stack.modules)}, found "
            f"{python}; install {', '.join(stack.packages)} there"
        )
    return Environment(program=program)


def _node(
    stack: Stack, given: str | None, install: bool, told: Callable[[str], None]
) -> Environment:
    """Node's packages; a browser's probe is driven from this interpreter and takes them too."""
    node = shutil.which("node")
    if node is None:
        raise RecipeError(f"{stack.name} is verified with Node, found none on PATH; install it")
    if stack.drives_browser and not any(map(shutil.which, _BROWSERS)):
        raise RecipeError(
            f"{stack.name} is verified in a browser, found none of {', '.join(_BROWSERS)} on PATH; "
            "install one"
        )
    folder = Path(given) if given is not None else _cache(stack)
    present = all((folder / "node_modules" / name).is_dir() for name in stack.packages)
    present &= given is not None or (folder / _READY).is_file()
    if not present and (given is not None or not install):
        raise _missing(stack, "`python`, a folder with node_modules,")
    if not present:
        told(f"installing {', '.join(stack.packages)} into {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        _run(["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "--silent",
              "--prefix", str(folder), *stack.packages], stack)  # fmt: skip
        (folder / _READY).touch()
    program = node if stack.probe.endswith(".mjs") else sys.executable
    return Environment(program=program, folder=folder.resolve())


def _for_node(stack: Stack) -> bool:
    return stack.probe.endswith(".mjs") or stack.modules[0].startswith("@")


def _imports(python: str, modules: tuple[str, ...]) -> bool:
    """Whether an interpreter finds modules, as a probe would: from no folder of ours."""
    code = "; ".join(f"import {name}" for name in modules)
    variables = Environment(program=python).variables()
    with tempfile.TemporaryDirectory() as empty:
        try:
            found = subprocess.run(
                [python, "-c", code],
                capture_output=True, check=False, cwd=empty, env=variables,
            )  # fmt: skip
        except OSError:
            return False
    return found.returncode == 0


def _cache(stack: Stack) -> Path:
    """A folder for what the stack needs; stacks that need the same share it."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    name = hashlib.sha256(repr(sorted(stack.packages)).encode()).hexdigest()[:12]
    return base / "compress-export" / "serving" / name


def _run(command: list[str], stack: Stack) -> None:
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL_CUDA": "skip"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except OSError as error:
        raise RecipeError(
            f"{stack.name} needs {command[0]} to install its packages, found: {error}; install it"
        ) from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no word of why"]
        raise RecipeError(
            f"{', '.join(stack.packages)} must install for {stack.name}, found: {lines[-1][:300]}"
        )


def _missing(stack: Stack, option: str) -> RecipeError:
    return RecipeError(
        f"{stack.name} is verified with {', '.join(stack.packages)}, found not all of it here; "
        f"give {option}, or `install` to make an environment in the cache"
    )
