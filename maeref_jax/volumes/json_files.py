"""JSON that anybody may have written, edited or damaged: an object, or BadInput that names the file; nothing else.

What stands in the object is for the caller to look at: `formats/said.py` reads values without trust.
"""

import json
from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput

# Far beyond any metadata; parsed, so many bytes are at most some hundred MB of memory.
LARGEST_BYTES = 16 << 20
# Deeper trees end in RecursionError somewhere, if not here.
DEEPEST = 100


def read_object(path: str | Path, largest_bytes: int | None = None) -> dict[str, Any]:
    """The JSON object in a file. Raises BadInput where there is none, it cannot be read, or is larger than that
    (LARGEST_BYTES, for None).
    """
    path, largest_bytes = Path(path), largest_bytes or LARGEST_BYTES
    try:
        with path.open("rb") as file:
            content = file.read(largest_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        raise BadInput(f"{path} cannot be read: {error}") from error
    return parse_object(content, path, largest_bytes)


def parse_object(content: bytes, name: str | Path, largest_bytes: int | None = None) -> dict[str, Any]:
    """The JSON object in these bytes (UTF-8). NaN and Infinity, which Python writes, are numbers here too.

    name: what the bytes are called in the message.

    Raises:
        BadInput: no JSON, no object, too long, or nested too deeply.
    """
    if len(content) > (largest_bytes or LARGEST_BYTES):
        raise BadInput(f"{name} is too long for JSON: over {largest_bytes or LARGEST_BYTES} bytes")
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except RecursionError as error:
        raise BadInput(f"{name} is damaged: its JSON is nested too deeply") from error
    except ValueError as error:  # of the encoding, of JSON, of whole numbers of thousands of digits
        raise BadInput(f"{name} is damaged, no JSON: {error}") from error
    if not isinstance(found, dict):
        raise BadInput(f"{name} is damaged: expected a JSON object, found {_called(found)}")
    if _depth(found) > DEEPEST:
        raise BadInput(f"{name} is damaged: its JSON is nested too deeply")
    return found


def _depth(tree: Any) -> int:
    """How deep objects and lists are nested, at most one more than DEEPEST."""
    depth, level = 0, [tree]
    while level and depth <= DEEPEST:
        depth += 1
        level = [
            inner
            for node in level
            for inner in (node.values() if isinstance(node, dict) else node)
            if isinstance(inner, dict | list)
        ]
    return depth


def _called(value: Any) -> str:
    return {list: "a list", str: "text", bool: "true or false", type(None): "null"}.get(type(value), "a number")
