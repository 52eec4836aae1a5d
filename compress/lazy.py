"""Names of a package that are loaded when they are first asked for (PEP 562)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module, metadata

__all__ = ["lazily"]

DISTRIBUTION = "compress-export"


def lazily(
    package: str, homes: Mapping[str, str], modules: Sequence[str] = ()
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """The `__getattr__` and `__dir__` of a package.

    Args:
        package: Its name.
        homes: Modules of the package, each with the names that it gives, separated by spaces.
        modules: Modules that are public themselves. `__version__` is the distribution's version.
    """
    home_of = {name: home for home, names in homes.items() for name in names.split()}

    def getattr_(name: str) -> object:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name == "__version__":
            return metadata.version(DISTRIBUTION)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{home_of[name]}"), name)

    return getattr_, lambda: sorted([*home_of, *modules, "__version__"])
