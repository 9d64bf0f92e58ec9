"""Whether the numbers of a checkpoint are those that were saved: a digest of every leaf, kept beside them.

The store beneath has no checksums of its own everywhere: about a third of single flipped bits would load, as other
numbers.
"""

import hashlib
import json
from typing import Any

import jax
import numpy as np


class Damaged(ValueError):
    """What was read is not what was saved; says what is wrong."""


def digests_of(tree: Any) -> dict[str, dict]:
    """{name: {"shape", "dtype", "blake2b"}} of the leaves of a tree of numpy arrays, as JSON.

    A name is the same for a tree as it is saved, with NamedTuples, and as it is read without them.
    """
    return {_name(path): _digest(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def check(tree: Any, kept: Any) -> None:
    """Raises Damaged unless the tree is the one whose `digests_of` were kept."""
    found = digests_of(tree)
    kept = kept if isinstance(kept, dict) else {}
    for name in sorted(found.keys() | kept.keys()):
        if name not in found or name not in kept:
            raise Damaged(f"{name} is {'missing' if name in kept else 'not one of its parts'}")
        if found[name] != kept[name]:
            raise Damaged(f"{name} holds other numbers than were saved")


def digest_of_json(content: Any) -> str:
    """The digest of what JSON can hold, as it is read from there: tuples are lists, names of numbers are text."""
    return _hex(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode())


def _digest(leaf) -> dict:
    array = np.ascontiguousarray(leaf)
    # As bytes: hashlib does not know the types of machine learning, such as bfloat16.
    return {"shape": list(np.shape(leaf)), "dtype": str(array.dtype), "blake2b": _hex(array.view(np.uint8).data)}


def _hex(data) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _name(path) -> str:
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)
