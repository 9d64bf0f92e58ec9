"""The voxel size that a model remembers of the files that it learns from: never one that nobody has said."""

import numpy as np

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.volumes.clicks import is_clicks
from maeref_jax.volumes.dataset import given_of
from maeref_jax.volumes.voxel_size import size_text

SPLITS = ("train", "validation")
FILES = tuple((split, role) for split in SPLITS for role in ("images", "labels"))
ALIKE = 1.25  # times as long: beyond it shapes are of another size


def settled(settings, given=(), say=tell):
    """The settings with the voxel size that the user's files say, where files were named and no size was.

    given: names of the settings that the user has set ("voxel_size_nm", "data.train.images"). What is set, and what an
    ensemble was trained with, stays; then label files of another size are warned of.
    Raises BadInput where no file says a size, or files say different ones.
    """
    named, data = [(split, role) for split, role in FILES if f"data.{split}.{role}" in given], settings.get("data", {})
    # Files beside phantoms are refused, but not here.
    if not named or data.get("at_voxel_size_nm") or any(data.get("phantom", {}).get(split) for split in SPLITS):
        return settings
    if "voxel_size_nm" in given or data.get("ensemble"):
        # Of images the ensemble speaks when it segments them.
        for path, size in _sizes(data, [one for one in named if "labels" in one]).items():
            if size and not _alike(size, settings["voxel_size_nm"]):
                say(f"{MARK}{path} has voxels of {size_text(size)} nm (z y x), {_remembered(settings)}")
        return settings
    found = _sizes(data, named)
    known = {path: size for path, size in found.items() if size}
    if not known:
        raise BadInput(
            f"{', '.join(found)}: no voxel size is said, and a model remembers the one that it was trained on; give "
            "--voxel_size_nm Z,Y,X"
        )
    (first, size), *others = known.items()
    for path, other in others:
        if not _alike(size, other):
            raise BadInput(
                f"{path} has voxels of {size_text(other)} nm (z y x), but {first} of {size_text(size)} nm: a model "
                "knows shapes of one size; --at_voxel_size_nm Z,Y,X reads all at one, and --voxel_size_nm Z,Y,X is for "
                "files that are wrong"
            )
    say(f"voxel_size_nm {', '.join(f'{length:g}' for length in size)}, as {first} says")
    return {**settings, "voxel_size_nm": tuple(map(float, size))}


def _remembered(settings):
    return f"but the model will remember {size_text(settings['voxel_size_nm'])} nm; --at_voxel_size_nm reads it at that"


def _sizes(data, named):
    """{path: its voxel size (z, y, x), or None} of the files of those splits and roles; clicks have none."""
    paths = [(role, path) for split, role in named for path in data[split][role] if not is_clicks(path)]
    return {path: given_of(data).open(path, role).voxel_size_nm for role, path in paths}


def _alike(one, other):
    ratio = np.divide(one, other)
    return (np.maximum(ratio, 1 / ratio) <= ALIKE).all()
