"""The skeleton of one object in 3-D: Lee's thinning, its graph, lengths in nm, and the SWC file of it.

Enclosed holes are filled first: thinning keeps what an object encloses, and a shell has no centreline.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree
from scipy.spatial import cKDTree
from skimage.measure import euler_number
from skimage.morphology import skeletonize

# One of each pair of opposite neighbours.
_STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


class Skeleton(NamedTuple):
    """points: int64 (n, 3) voxels (z, y, x) of the mask; edges: int64 (m, 2) indices of points that are neighbours;
    cycles: independent loops
    """

    points: np.ndarray
    edges: np.ndarray
    cycles: int


def skeleton_of(mask: np.ndarray) -> Skeleton:
    """The skeleton of a bool array (z, y, x). A diagonal step is no edge where shorter steps lead the same way."""
    thin = skeletonize(np.pad(ndimage.binary_fill_holes(mask), 1), method="lee") > 0
    if not thin.any():
        return Skeleton(np.zeros((0, 3), np.int64), np.zeros((0, 2), np.int64), 0)
    points = np.argwhere(thin)
    strides = np.array([thin.shape[1] * thin.shape[2], thin.shape[2], 1])
    flat, edges = points @ strides, []
    for step in _STEPS:
        there = flat + np.dot(step, strides)
        neighbour = _is_in(there, flat)
        for partial in _partial_steps(step):
            neighbour &= ~_is_in(flat + np.dot(partial, strides), flat)
        edges.append(np.stack([np.flatnonzero(neighbour), np.searchsorted(flat, there[neighbour])], -1))
    pieces = ndimage.label(thin, np.ones((3, 3, 3), int))[1]
    return Skeleton(points - 1, np.concatenate(edges), int(pieces - euler_number(thin, connectivity=3)))


def measure(skeleton: Skeleton, voxel_size_nm: tuple[float, float, float] | None) -> dict[str, float | int | None]:
    """{"length_nm": None without a voxel size, "branches", "end_points", "cycles"}, as in `validity.skeleton_counts`:
    end points have one neighbour; branches are the pieces left when points of three or more are taken out.
    """
    degree = np.bincount(skeleton.edges.ravel(), minlength=len(skeleton.points))
    simple = (degree > 0) & (degree < 3)
    kept = skeleton.edges[simple[skeleton.edges].all(1)]
    pieces = connected_components(_graph(kept, np.ones(len(kept)), len(degree)), directed=False)[1]
    length = None if voxel_size_nm is None else float(_lengths(skeleton, voxel_size_nm).sum())
    return {
        "length_nm": length,
        "branches": len(np.unique(pieces[simple])),
        "end_points": int((degree == 1).sum()),
        "cycles": skeleton.cycles,
    }


def radii_nm(skeleton: Skeleton, mask: np.ndarray, voxel_size_nm: tuple[float, float, float]) -> np.ndarray:
    """From each point to the nearest voxel outside the mask (of its faces, too), float64 (n,)."""
    padded = np.pad(mask, 1)
    outside = np.argwhere(ndimage.binary_dilation(padded) & ~padded) - 1  # the nearest one touches the mask
    return cKDTree(outside * np.array(voxel_size_nm)).query(skeleton.points * np.array(voxel_size_nm))[0]


def swc_lines(
    skeleton: Skeleton, radii: np.ndarray, start: tuple[int, int, int], voxel_size_nm: tuple[float, float, float]
) -> Iterator[str]:
    """Lines "number type x y z radius parent" in nm, the middle of the volume's first voxel being 0; type 0, undefined.

    start: the voxel (z, y, x) of the volume where the mask begins. SWC holds trees: a cycle lacks one edge.
    """
    position = (skeleton.points + np.array(start)) * np.array(voxel_size_nm)
    tree = minimum_spanning_tree(_graph(skeleton.edges, _lengths(skeleton, voxel_size_nm), len(position)))
    owner = connected_components(tree, directed=False)[1]
    degree = np.bincount(np.concatenate(tree.nonzero()), minlength=len(position))
    number = 0
    line_of = np.zeros(len(position), int)
    for piece in range(owner.max(initial=-1) + 1):
        members = np.flatnonzero(owner == piece)
        root = members[np.argmin(np.where(degree[members] > 0, degree[members], 99))]  # an end, if there is one
        order, parents = breadth_first_order(tree, root, directed=False)
        for at in order:
            number += 1
            line_of[at] = number
            z, y, x = position[at]
            parent = line_of[parents[at]] if at != root else -1
            yield f"{number} 0 {x:.1f} {y:.1f} {z:.1f} {radii[at]:.1f} {parent}"


def _partial_steps(step):
    """The ways along some of the axes of a diagonal step."""
    axes = [axis for axis in range(3) if step[axis]]
    for chosen in product((0, 1), repeat=len(axes)):
        if 0 < sum(chosen) < len(axes):
            yield [step[axis] * (axis in axes and chosen[axes.index(axis)]) for axis in range(3)]


def _is_in(wanted, flat):
    """Which of `wanted` are in the sorted array `flat`."""
    return flat[np.minimum(np.searchsorted(flat, wanted), len(flat) - 1)] == wanted


def _lengths(skeleton, voxel_size_nm):
    first, second = (skeleton.points[skeleton.edges[:, i]] for i in (0, 1))
    return np.linalg.norm((first - second) * np.array(voxel_size_nm), axis=1)


def _graph(edges, lengths, points):
    return coo_array((lengths, (edges[:, 0], edges[:, 1])), shape=(points, points)).tocsr()
