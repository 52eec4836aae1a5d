"""`schema`: the recipe's JSON Schema."""

from __future__ import annotations

import json

from compress_export.console import out
from compress_export.recipe import Recipe


def run() -> None:
    """Print the schema."""
    out.print(json.dumps(Recipe.model_json_schema(), indent=2), soft_wrap=True, markup=False)
