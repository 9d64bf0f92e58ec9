"""Blocks of tissue in resin to learn from and to be judged by, as a config names them: drawn by seed, or with the
texture of a real image, whose columns (x) are shared out between training, validation and test.
"""

import functools
import itertools

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.phantoms import tissue
from maeref_jax.samples.training_volumes import TrainingVolume
from maeref_jax.volumes.resolution import at_voxel_size
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import Box

PASTED = "pasted"  # tissue in resin, of real texture; beside the kinds of phantoms/tissue.py


def check(asked: dict) -> None:
    """Raises BadInput for settings of data.phantom.tissue that no block can be made of, or columns that are shared."""
    unknown = [kind for kind in asked["kinds"] if kind not in (PASTED, *tissue.KINDS)]
    if unknown or not asked["kinds"]:
        raise BadInput(f"tissue.kinds {asked['kinds']}: expected some of {', '.join((PASTED, *tissue.KINDS))}")
    if not asked["drawn_at_nm"] or min(asked["drawn_at_nm"]) <= 0:
        raise BadInput(f"tissue.drawn_at_nm {asked['drawn_at_nm']}: expected sizes of voxels in nm")
    if PASTED in asked["kinds"] and not asked["texture"]["path"]:
        raise BadInput(
            f"tissue.kinds has '{PASTED}', but tissue.texture.path names no image; give one, or leave it out"
        )
    parts = sorted(asked["texture"]["columns"].items(), key=lambda part: part[1])
    for name, (first, last) in parts:
        if not 0 <= first < last <= 1:
            raise BadInput(f"tissue.texture.columns.{name} is {(first, last)}; expected shares of the width, 0 to 1")
    for (one, (_, end)), (other, (start, _)) in itertools.pairwise(parts):
        if start < end:
            raise BadInput(f"tissue.texture.columns: {one} and {other} overlap; keep them apart")


def blocks(given: dict, split: str, voxel_size_nm: tuple[float, float, float]) -> list[TrainingVolume]:
    """The TrainingVolumes of data.phantom of a config: seeds by split, shape, and `tissue` (see configs/tissue.py).

    Seed s is of the kind kinds[s % len(kinds)], drawn at drawn_at_nm[s % len(drawn_at_nm)] along every axis and taken
    for a block of `voxel_size_nm`, so that structures come in several sizes.
    """
    asked = given["tissue"]
    check(asked)
    found = []
    for seed in given[split]:
        kind, side = (asked[name][seed % len(asked[name])] for name in ("kinds", "drawn_at_nm"))
        made = block(seed, tuple(given["shape"]), (side,) * 3, kind, asked["texture"], split)
        found.append(TrainingVolume(name_of(seed, kind), made.image, made.tissue))
    return found


def name_of(seed: int, kind: str) -> str:
    """What a workdir remembers a block by."""
    return f"tissue_{kind}_{seed}"


def block(
    seed: int,
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    kind: str,
    texture: dict,
    split: str,
    shift: str = "",
) -> tissue.TissueBlock:
    """A TissueBlock of a kind of phantoms/tissue.py, or PASTED.

    texture: path, axes, voxel_size_nm of an image of nothing but tissue; columns: {split: (first, last)} shares of its
    width.
    """
    if kind != PASTED:
        return tissue.tissue_block(seed, shape, voxel_size_nm, kind, None, shift)
    file = texture["path"], texture["axes"], tuple(texture["voxel_size_nm"])
    real = _texture(*file, tuple(texture["columns"][split]), tuple(voxel_size_nm))
    return tissue.tissue_block(seed, shape, voxel_size_nm, "mixed", real, shift)


@functools.lru_cache(maxsize=16)
def _texture(path, axes, voxel_size_nm, columns, wanted_nm):
    """The columns of an image at another voxel size, float32 (z, y, x)."""
    image = open_volume(path, axes=axes, voxel_size_nm=voxel_size_nm)
    coarse = at_voxel_size(image, wanted_nm, "mean")
    depth, height, width = coarse.shape
    first, last = (round(share * width) for share in columns)
    if last - first < 2:
        raise BadInput(f"columns {columns} of {path} are {last - first} voxels of {wanted_nm} nm; expected 2 or more")
    return coarse.read(Box((0, 0, first), (depth, height, last))).astype(np.float32)
