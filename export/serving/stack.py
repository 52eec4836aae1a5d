"""A serving stack as data: what it takes, who writes its folder, and what can verify it.

Knows files and graphs.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import onnx

from export.precision.variants import VariantName
from export.serving.reference import Reference
from export.serving.subject import Subject

__all__ = [
    "Precision",
    "Source",
    "Stack",
    "Values",
    "copy",
    "graph_values",
    "place",
    "place_config",
    "place_graph",
    "place_guide",
    "place_tokenizer",
    "place_whole",
    "template",
    "write_json",
]

Precision = Literal["fp32", "fp16", "int8"]
Write: TypeAlias = "Callable[[Source, Path, tuple[Precision, ...]], None]"
Values: TypeAlias = Mapping[str, tuple[str | int, ...]]

_FILES = Path(__file__).parent / "files"
_GRAPH = "model.onnx"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source(Subject):
    """What serving folders are made from.

    Attributes:
        graphs: The bundle's `onnx/`, a folder a variant.
        name: Name of the model for servers that need one: letters, digits, dashes.
        inputs: Inputs of the graphs, in order.
        outputs: Outputs of the graphs, with their axes.
        reference: The checkpoint's answers.
    """

    graphs: Path
    name: str
    inputs: tuple[str, ...]
    outputs: Values
    reference: Reference


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """One thing that loads bundles.

    Attributes:
        name: Name on the command line and of its folder under `serving/`.
        title: Name that its makers use.
        graphs: By precision, the graph's place in the folder and the variant that it is. Where all
            have one place, a folder holds one precision.
        write: Fills a folder.
        probe: Script of `probes/` that loads the folder with the real thing.
        packages: Packages of the probe's environment, for pip, or npm if the probe is for Node.
        modules: Modules that an existing environment needs for the probe to run in it.
        real: Description of what loads the folder in `verify`.
        default_precisions: Precisions that are written where none is named.
        drives_browser: Whether its probe needs one.
        own_tokenizer: Whether it opens tokenizers by transformers, of any kind; others want a
            `tokenizer.json`.
        cuts_left: Whether it cuts long texts on the side that the tokenizer's files say.
        reads_settings: Whether it reads sentence-transformers' files of settings.
        refuses: Why a model cannot be served so, if it cannot.
    """

    name: str
    title: str
    graphs: Mapping[Precision, tuple[str, VariantName]]
    write: Write
    probe: str
    packages: tuple[str, ...]
    modules: tuple[str, ...]
    real: str
    default_precisions: tuple[Precision, ...] = ("fp32",)
    drives_browser: bool = False
    own_tokenizer: bool = False
    cuts_left: bool = False
    reads_settings: bool = False
    refuses: Callable[[Subject], str | None] = field(default=lambda _: None)


def place(source: Path, target: Path) -> None:
    """Copy a file of the bundle into a serving folder: a change to one leaves the other alone."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def copy(source: Path, target: Path) -> None:
    """Put a file of the user's into a serving folder."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source.resolve(), target)


def place_graph(source: Source, variant: str, target: Path) -> None:
    """Put a variant's graph at `target`; weights of their own go into `<target>_data` beside it."""
    graph = source.graphs / variant / _GRAPH
    extra = graph.with_name(f"{_GRAPH}_data")
    if not extra.is_file():
        place(graph, target)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(onnx.load(graph), target, save_as_external_data=True, location=f"{target.name}_data")


def place_whole(source: Source, variant: str, folder: Path) -> None:
    """Put a variant's graph, the config and the tokenizer into one folder."""
    place_graph(source, variant, folder / _GRAPH)
    place_config(source, folder)
    place_tokenizer(source, folder)


def place_tokenizer(source: Source, folder: Path) -> None:
    """Put the tokenizer's files into a folder, its class one that transformers 4 knows too."""
    folder.mkdir(parents=True, exist_ok=True)
    origin = next(p for p in sorted(source.graphs.iterdir()) if p.is_dir())
    for path in sorted(origin.iterdir()):
        if path.name == "tokenizer_config.json":
            config = json.loads(path.read_text(encoding="utf-8"))
            if config.get("tokenizer_class") == "TokenizersBackend":
                config["tokenizer_class"] = "PreTrainedTokenizerFast"
            config["model_max_length"] = source.max_length
            extra = config.get("extra_special_tokens")
            if isinstance(extra, list):  # transformers 4 takes names with tokens there alone
                config["additional_special_tokens"] = config.pop("extra_special_tokens")
            write_json(folder / path.name, config)
        elif path.name != "config.json" and not path.name.startswith(_GRAPH):
            place(path, folder / path.name)


def place_config(source: Source, folder: Path) -> None:
    """Put `config.json` into a folder."""
    origin = next(p for p in sorted(source.graphs.iterdir()) if p.is_dir())
    place(origin / "config.json", folder / "config.json")


def graph_values(path: Path) -> tuple[tuple[str, ...], Values]:
    """Names of a graph's inputs, and its outputs with their axes."""
    graph = onnx.load(path, load_external_data=False).graph
    outputs = {
        value.name: tuple(
            dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim
        )
        for value in graph.output
    }
    return tuple(value.name for value in graph.input), outputs


def template(name: str, **values: str) -> str:
    """A file of `files/` with each `@NAME@` replaced by its value, once."""
    text = (_FILES / name).read_text(encoding="utf-8")
    return re.sub(r"@([A-Z]+)@", lambda found: values[found.group(1)], text)


def place_guide(folder: Path, name: str, **values: str) -> None:
    """Put `SERVE.md` into a folder: how its stack is started on it."""
    (folder / "SERVE.md").write_text(template(name, **values), encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write JSON that people can read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
