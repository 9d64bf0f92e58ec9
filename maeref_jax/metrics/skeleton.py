"""The skeleton of one object in 3-D: Lee's thinning, its graph, lengths in nm, and the SWC file of it.

Enclosed holes are filled first: thinning keeps what an object encloses, and a shell has no centreline.
"""

from collections.abc import Iterator
from itertools import product
from typing import NamedTuple

import numpy as np
import scipy
import skimage

# One of each pair of opposite neighbours.
_STEPS = [step for step in product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]
_SMOOTHING = 0.75  # standard deviation of the smoothing, in radii
_MOST_ROUNDS = 5000
_SLAB = 16


class Skeleton(NamedTuple):
    """points: int64 (n, 3) voxels (z, y, x) of the mask; edges: int64 (m, 2) indices of points that are neighbours;
    cycles: independent loops
    """

    points: np.ndarray
    edges: np.ndarray
    cycles: int


def skeleton_of(mask: np.ndarray) -> Skeleton:
    """The skeleton of a bool array (z, y, x). A diagonal step is no edge where shorter steps lead the same way."""
    thin = skimage.morphology.skeletonize(_filled(mask), method="lee") > 0
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
    found = np.concatenate(edges)
    pieces, _ = _connected(_graph(found, np.ones(len(found)), len(points)))
    return Skeleton(points - 1, found, int(pieces - _euler_number(thin)))


def _filled(mask: np.ndarray) -> np.ndarray:
    """Bool, a voxel larger on all sides: the mask and what it encloses."""
    return scipy.ndimage.label(~np.pad(mask, 1))[0] != 1  # 1 is what is outside


def measure(skeleton: Skeleton, position_nm: np.ndarray | None) -> dict[str, float | int | None]:
    """{"length_nm": None without positions, "branches", "end_points", "cycles"}, as in `validity.skeleton_counts`:
    end points have one neighbour; branches are the pieces left when points of three or more are taken out.
    """
    degree = np.bincount(skeleton.edges.ravel(), minlength=len(skeleton.points))
    simple = (degree > 0) & (degree < 3)
    kept = skeleton.edges[simple[skeleton.edges].all(1)]
    _, pieces = _connected(_graph(kept, np.ones(len(kept)), len(degree)))
    return {
        "length_nm": None if position_nm is None else float(_lengths(skeleton, position_nm).sum()),
        "branches": len(np.unique(pieces[simple])),
        "end_points": int((degree == 1).sum()),
        "cycles": skeleton.cycles,
    }


def radii_nm(skeleton: Skeleton, mask: np.ndarray, voxel_size_nm: tuple[float, float, float]) -> np.ndarray:
    """From each point to the nearest voxel outside the mask (of its faces, too), float64 (n,). What the mask encloses
    is no outside, as the skeleton knows nothing of it.
    """
    padded = _filled(mask)
    outside = np.argwhere(scipy.ndimage.binary_dilation(padded) & ~padded) - 1  # the nearest one touches the mask
    size, quickly_made = np.array(voxel_size_nm), {"compact_nodes": False, "balanced_tree": False}
    return scipy.spatial.cKDTree(outside * size, **quickly_made).query(skeleton.points * size)[0]


def pruned(
    skeleton: Skeleton, radii: np.ndarray, voxel_size_nm: tuple[float, float, float]
) -> tuple[Skeleton, np.ndarray]:
    """Without the twigs that thinning grows on the steps of a surface, and the radii of what is left.

    A twig ends inside the ball around its junction that fits into the object. Cycles stay.
    """
    position = skeleton.points * np.array(voxel_size_nm)
    beside: list[set[int]] = [set() for _ in position]
    for one, other in skeleton.edges.tolist():
        beside[one].add(other)
        beside[other].add(one)
    kept = np.ones(len(position), bool)
    ends = [at for at, others in enumerate(beside) if len(others) == 1]
    while ends:
        twig, at = [ends.pop()], None
        if len(beside[twig[0]]) != 1:
            continue  # its neighbour was a twig, too
        (at,) = beside[twig[0]]
        while len(beside[at]) == 2:
            (following,) = beside[at] - {twig[-1]}
            twig, at = [*twig, at], following
        if len(beside[at]) < 3 or np.linalg.norm(position[twig[0]] - position[at]) >= radii[at]:
            continue
        kept[twig] = False
        beside[at].discard(twig[-1])
        for point in twig:
            beside[point] = set()
    number = np.cumsum(kept) - 1
    edges = number[skeleton.edges[kept[skeleton.edges].all(1)]]
    return Skeleton(skeleton.points[kept], edges, skeleton.cycles), radii[kept]


def positions_nm(skeleton: Skeleton, radii: np.ndarray, voxel_size_nm: tuple[float, float, float]) -> np.ndarray:
    """Where the points are, float64 (n, 3), z y x, the middle of the mask's first voxel being 0.

    The staircase of the voxels, steep where slices are thick, is smoothed along the skeleton, over a length that goes
    with the thickness of the object: finer bends of a centreline mean nothing. Ends and junctions stay.
    """
    position = skeleton.points * np.array(voxel_size_nm)
    if not len(skeleton.edges):
        return position
    points, steps = len(position), _lengths(skeleton, position)
    between = np.bincount(skeleton.edges.ravel(), minlength=points) == 2
    links = _graph(skeleton.edges, np.ones(len(steps)), points)
    neighbours = (links + links.T).tocsr()
    # Each round adds half a squared step to the variance.
    rounds = int(2 * (_SMOOTHING * np.median(radii) / steps.mean()) ** 2)
    for _ in range(min(rounds, _MOST_ROUNDS)):
        position[between] = (position / 2 + neighbours @ position / 4)[between]
    return position


def swc_lines(skeleton: Skeleton, position_nm: np.ndarray, radii: np.ndarray) -> Iterator[str]:
    """Lines "number type x y z radius parent" in nm; type 0 is undefined. SWC holds trees: a cycle lacks one edge.

    position_nm: float (n, 3), z y x, of the points.
    """
    graph = _graph(skeleton.edges, _lengths(skeleton, position_nm), len(position_nm))
    tree = scipy.sparse.csgraph.minimum_spanning_tree(graph)
    _, owner = _connected(tree)
    degree = np.bincount(np.concatenate(tree.nonzero()), minlength=len(position_nm))
    number = 0
    line_of = np.zeros(len(position_nm), int)
    for piece in range(owner.max(initial=-1) + 1):
        members = np.flatnonzero(owner == piece)
        root = members[np.argmin(np.where(degree[members] > 0, degree[members], 99))]  # an end, if there is one
        order, parents = scipy.sparse.csgraph.breadth_first_order(tree, root, directed=False)
        for at in order:
            number += 1
            line_of[at] = number
            z, y, x = position_nm[at]
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


def _euler_number(thin):
    """Of the whole, slab by slab: slabs share a plane, which is counted once too often."""
    number = skimage.measure.euler_number(thin[: _SLAB + 1], connectivity=3)
    for start in range(_SLAB, len(thin) - 1, _SLAB):
        number += skimage.measure.euler_number(thin[start : start + _SLAB + 1], connectivity=3)
        number -= skimage.measure.euler_number(thin[start : start + 1], connectivity=3)
    return number


def _lengths(skeleton, position_nm):
    first, second = position_nm[skeleton.edges.T]
    return np.linalg.norm(first - second, axis=1)


def _graph(edges, lengths, points):
    return scipy.sparse.coo_array((lengths, (edges[:, 0], edges[:, 1])), shape=(points, points)).tocsr()


def _connected(graph):
    """The number of connected pieces, and of every point the number of its own."""
    return scipy.sparse.csgraph.connected_components(graph, directed=False)
