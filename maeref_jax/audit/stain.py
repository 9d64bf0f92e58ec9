"""The outlines of a refined volume against an independent stain, block by block: metrics/witness.py defines the scores.

It runs after the volume is finished and changes nothing but the sidecar, so a witness may be called at any time.
Memory: one block and its surroundings, and counts per level of brightness.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.metrics import witness
from maeref_jax.results import output
from maeref_jax.results.maps import path_of
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import Volume, labels_from_disk, open_volume
from maeref_jax.volumes.windows import blocks, whole

MAPS = ("initial", "refined")
REGIONS = ("everywhere", "near_hidden")


def check(stain: Volume, shape: tuple[int, ...], distance_vx: float, reach_vx: float) -> None:
    """Raises BadInput for a stain of another shape, or distances that make no sense."""
    if stain.shape != tuple(shape):
        raise BadInput(f"the witness {stain.path} has shape {stain.shape}, expected that of the input, {tuple(shape)}")
    if distance_vx < 0 or reach_vx < 0:
        raise BadInput(f"witness_distance_vx {distance_vx} and witness_reach_vx {reach_vx}, expected at least 0")


def score_finished(
    place: Output,
    summary: dict[str, Any],
    stain: Volume,
    foreground: Sequence[int],
    distance_vx: float,
    reach_vx: float,
) -> dict[str, Any]:
    """The summary of a finished volume with the entry "witness", in its sidecar as well; counted unless it is there."""
    asked = (foreground, distance_vx, reach_vx)
    wanted = json.loads(json.dumps(asked_for(stain, *asked)))
    if wanted.items() <= summary.get("witness", {}).items():
        return summary
    roles = ("hidden", "initial", *["refined"] * (summary["made_by"]["refiner"] is not None))
    arrays = {role: open_volume(path_of(place, role)) for role in roles}
    found = score(arrays, stain, summary["made_by"]["settings"]["block"], *asked)
    return output.finish(place, summary | {"witness": found})


def score(
    arrays: dict[str, Volume],
    stain: Volume,
    block: Sequence[int],
    foreground: Sequence[int],
    distance_vx: float,
    reach_vx: float,
) -> dict[str, Any]:
    """The entry "witness" of a sidecar. The result does not depend on the blocks.

    arrays: "initial", "refined" where there is one, "hidden", as stored. foreground: class ids. distance_vx: of what is
    near an outline; reach_vx: of what is near a hidden token; both in the plane.

    Returns:
        what it was scored with; "everywhere" and "near_hidden": {map: {"contrast", "auroc", "coverage", "near_mean",
        "elsewhere_mean", "near_voxels", "elsewhere_voxels"}}, None where undefined.
    """
    maps = [name for name in MAPS if name in arrays]
    low, high = _range(stain, block)
    found = {(region, name): witness.zero() for region in REGIONS for name in maps}
    halo = math.ceil(max(distance_vx + 1, reach_vx)) + 1
    everything = whole(stain.shape)
    for box in blocks(stain.shape, block):
        around = box.grow((0, halo, halo)).intersect(everything)
        inside = box.within(around).slices
        brightness = stain.read(box)
        levels = witness.levels_of(brightness, low, high)
        beside = witness.within(arrays["hidden"].read(around) != 0, reach_vx)[inside]
        labels = {name: labels_from_disk(arrays[name].read(around)) for name in maps}
        known = np.logical_and.reduce([found[inside] >= 0 for found in labels.values()])
        for name in maps:
            near = witness.near_outline(labels[name], foreground, distance_vx)[inside]
            for region, where in (("everywhere", known), ("near_hidden", known & beside)):
                one = witness.count(brightness, levels, near, where)
                found[region, name] = witness.add(found[region, name], one)
    scored = {region: {name: _summary(found[region, name]) for name in maps} for region in REGIONS}
    return asked_for(stain, foreground, distance_vx, reach_vx) | scored


def asked_for(stain: Volume, foreground: Sequence[int], distance_vx: float, reach_vx: float) -> dict[str, Any]:
    """What decides about the scores of a volume; where a sidecar has the same, nothing needs to be counted again."""
    known = {"input": stain.identity(), "classes": [int(label) for label in foreground]}
    return known | {"distance_vx": float(distance_vx), "reach_vx": float(reach_vx)}


def _range(stain: Volume, block) -> tuple[float, float]:
    """The darkest and the brightest voxel; of types with few enough values, all that there can be."""
    if stain.dtype in (np.uint8, np.uint16):
        return 0.0, float(np.iinfo(stain.dtype).max)
    low, high = math.inf, -math.inf
    for box in blocks(stain.shape, block):
        part = stain.read(box)
        low, high = min(low, float(part.min())), max(high, float(part.max()))
    return low, high


def _summary(counts: witness.WitnessCounts) -> dict[str, float | int | None]:
    near, elsewhere = int(counts.near.sum()), int(counts.elsewhere.sum())
    values = {
        "contrast": witness.contrast(counts),
        "auroc": witness.auroc(counts),
        "coverage": witness.coverage(counts),
        "near_mean": counts.sum_near / near if near else math.nan,
        "elsewhere_mean": counts.sum_elsewhere / elsewhere if elsewhere else math.nan,
    }
    rounded = {name: None if math.isnan(value) else round(value, 6) for name, value in values.items()}
    return rounded | {"near_voxels": near, "elsewhere_voxels": elsewhere}
