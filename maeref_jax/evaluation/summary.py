"""The numbers for programs, as every task writes them: JSON, in which what is undefined is null."""

import json
import math
from pathlib import Path
from typing import Any

from maeref_jax.training.workdir import write_text


def write(path: Path, numbers: dict[str, Any]) -> None:
    """Writes them whole or not at all; NaN, which is no JSON, as null."""
    write_text(path, json.dumps(without_nan(numbers), indent=1, allow_nan=False))


def without_nan(tree: Any) -> Any:
    """The same dicts and lists, None in the place of every NaN."""
    if isinstance(tree, dict):
        return {key: without_nan(value) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [without_nan(value) for value in tree]
    return None if isinstance(tree, float) and math.isnan(tree) else tree
