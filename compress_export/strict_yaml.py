"""YAML in which no key stands twice: plain YAML takes the last one and says nothing."""

from __future__ import annotations

from typing import Any

import yaml

__all__ = ["read_yaml"]


class _Loader(yaml.SafeLoader):
    """The safe loader, with repeated keys refused."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """A mapping whose keys are all different."""
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            line = key.start_mark.line + 1
            if isinstance(name, str) and name in lines and name != "<<":
                raise yaml.YAMLError(
                    f"key {name!r} stands twice, in lines {lines[name]} and {line}; keep one"
                )
            lines[name if isinstance(name, str) else id(key)] = line
        return super().construct_mapping(node, deep)


def read_yaml(text: str) -> Any:
    r"""What a YAML text says.

    Raises:
        yaml.YAMLError: It is no YAML, or a key stands twice in one mapping.

    Example:
        >>> read_yaml("model: a\nmodel: b")
        Traceback (most recent call last):
        yaml.error.YAMLError: key 'model' stands twice, in lines 1 and 2; keep one
    """
    return yaml.load(text, _Loader)
