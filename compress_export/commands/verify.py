"""`verify`: does each serving stack load its folder, and give what the checkpoint gives?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import typer

from compress.errors import BundleError, RecipeError, VerificationError
from compress.files.folder import MANIFEST, changed_files
from compress_export.console import note, table
from compress_export.console import out as console
from export.serving.environments import find_environment
from export.serving.reference import REFERENCE, Reference
from export.serving.stacks import STACKS
from export.serving.target import ServingTarget, parse_target
from export.serving.verify import Verified, verify_serving
from export.serving.write import SERVING

FAILED, UNDECIDED = 1, 3


def run(
    bundle: Path,
    targets: list[str],
    python: str | None,
    *,
    edited: bool,
    install: bool,
    as_json: bool,
) -> None:
    """Check the bundle's files, then each serving folder; exit with 1 if one fails.

    Args:
        bundle: Of `export --serve` or `run`.
        targets: `STACK` or `STACK@PRECISION` each; empty for all that it holds.
        python: Interpreter with the stack's packages, see `find_environment`.
        edited: Whether files of serving folders may differ from the manifest.
        install: Whether to make what is missing.
        as_json: Print JSON.
    """
    if bundle.name == SERVING and (bundle.parent / MANIFEST).is_file():
        raise BundleError(f"{bundle} is part of a bundle; name the bundle, {bundle.parent}")
    changed = _changed(bundle)
    orders = [parse_target(text) for text in targets] or _held(bundle)
    if python is not None and len(orders) > 1:
        raise RecipeError(f"--python goes with one --target, found {len(orders)}; name one")
    taken = [name for name in changed if edited and (bundle / name).is_file()]
    changed = [name for name in changed if name not in taken]
    broken = [line for order in orders for line in _told(bundle, order, changed)]
    whole = [order for order in orders if not _own(order, changed)]
    found, failures, left = _verify(bundle, whole, python, install=install)
    failures = broken + failures
    if as_json:
        rows = [asdict(row) | {"agrees": row.agrees} for row in found]
        console.print_json(json.dumps({"verified": rows, "failures": failures, "left": left}))
    elif found:
        _print(bundle, found)
    for line in [f"failed: {line}" for line in failures] + [f"not verified: {x}" for x in left]:
        note(line)
    if failures or left:
        raise typer.Exit(FAILED if failures else UNDECIDED)


def _verify(
    bundle: Path, orders: list[ServingTarget], python: str | None, *, install: bool
) -> tuple[list[Verified], list[str], list[str]]:
    """What was compared, what failed, and what could not be tried here."""
    reference = Reference.load(bundle / SERVING / REFERENCE)
    found: list[Verified] = []
    failures: list[str] = []
    left: list[str] = []
    for order in orders:
        try:
            environment = find_environment(order.stack, given=python, install=install, told=note)
            found += verify_serving(order, bundle / SERVING / order.folder, reference, environment)
        except VerificationError as error:
            failures.append(str(error))
        except RecipeError as error:
            if len(orders) == 1:
                raise
            left.append(str(error))
    return found, failures + [_difference(row) for row in found if not row.agrees], left


def _changed(bundle: Path) -> list[str]:
    """Files of serving folders that are not as they were written.

    Raises:
        BundleError: Another file of the bundle is not.
    """
    changed = list(changed_files(bundle))
    for name in changed:
        if name.count("/") < 2 or not name.startswith(f"{SERVING}/"):
            raise BundleError(f"{bundle / name} differs from its manifest; export the bundle again")
    return changed


def _own(order: ServingTarget, changed: list[str]) -> list[str]:
    return [name for name in changed if name.startswith(f"{SERVING}/{order.folder}/")]


def _told(bundle: Path, order: ServingTarget, changed: list[str]) -> list[str]:
    return [
        f"{bundle / name} differs from its manifest; export the bundle again, or say --edited if "
        "the change is yours"
        if (bundle / name).is_file()
        else f"{bundle / name} must exist, found none; export the bundle again"
        for name in _own(order, changed)
    ]


def _held(bundle: Path) -> list[ServingTarget]:
    """What a bundle's `serving/` holds."""
    known = {
        order.folder: order
        for stack in STACKS
        for order in (
            ServingTarget(stack=stack),
            *(ServingTarget(stack=stack, precision=p) for p in stack.graphs),
        )
    }
    folder = bundle / SERVING
    found = [known[p.name] for p in sorted(folder.glob("*")) if p.name in known]
    if not found:
        raise BundleError(
            f"{bundle} must hold serving folders, found none; export it with --serve STACK"
        )
    return found


def _difference(row: Verified) -> str:
    way = f" by {row.way}" if row.way else ""
    return (
        f"{row.stack}{way} must be within {row.tolerance:.1e} of its reference in "
        f"{row.precision}, found {row.deviation:.1e}"
    )


def _print(bundle: Path, found: list[Verified]) -> None:
    rows = [
        [row.stack, row.precision, row.way, str(row.examples), f"{row.max_abs:.1e}",
         f"{row.deviation:.1e} of {row.tolerance:.1e}", f"{row.latency_ms:.2f}"]
        for row in found
    ]  # fmt: skip
    header = ["stack", "precision", "by", "texts", "from the checkpoint", "accepted", "ms"]
    table(f"{bundle}: a text alone through each stack", header, rows, left=(0, 1, 2))
    if any(row.precision == "int8" for row in found):
        console.print("int8 is accepted by what the same graph gave where it was exported")
    if len({row.examples for row in found}) > 1:
        console.print("stacks that take no pairs were asked for the single texts")
    for name in dict.fromkeys(row.stack for row in found):
        versions = next(row.versions for row in found if row.stack == name)
        told = ", ".join(f"{library} {version}" for library, version in versions.items())
        console.print(f"{name}: {told}", soft_wrap=True)
