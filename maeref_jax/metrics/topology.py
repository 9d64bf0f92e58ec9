"""Pieces, holes and tunnels of masks, and which cristae hang in the air: no truth needed.

Laws of this file:
- Objects are connected through corners too (8 neighbours in a plane, 26 in a box), what is around them through faces
  only (4, 6): otherwise a line would not part what lies on its two sides.
- Everything is a count, and counts of crops or instances add.
- Unknown (-1) voxels belong to no object, and a hole with an unknown voxel in it is none: nobody knows what is there.
- Beyond the border of the crop nobody knows either: what surrounds an object there is open, never a hole.
"""

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number

from maeref_jax.metrics.validity import MITOCHONDRIA, face_sizes


def shape_counts(mask, known=None):
    """Pieces and holes of one mask, {name: int}, all 0 for an empty one.

    mask: bool (y, x) or (z, y, x). known: bool, False where nobody knows; None: everything is known.
        components: connected pieces; one voxel is one piece
        holes: what is enclosed on all sides (3-D: cavities)
        euler_number: components - holes; in 3-D components - tunnels + cavities
        tunnels: 3-D only, ways through (a torus has one)
    """
    mask = np.asarray(mask)
    full = np.ones((3,) * mask.ndim, int)
    enclosed, holes, _ = _enclosed(mask, known)
    found = {
        "components": int(ndimage.label(mask, full)[1]),
        "holes": len(holes),
        "euler_number": int(euler_number(mask, connectivity=mask.ndim)) if mask.any() else 0,
    }
    if mask.ndim == 3:
        found["tunnels"] = found["components"] + len(enclosed) - found["euler_number"]
    return found


def hole_mask(mask, known=None):
    """Bool of the shape of `mask`: the voxels of those holes that `shape_counts` counts."""
    _, holes, outside = _enclosed(np.asarray(mask), known)
    return np.isin(outside, holes)


def cristae_counts(labels, classes=MITOCHONDRIA, voxel_size_nm=None):
    """How many cristae there are and how they are attached, {name: int}.

    labels: integers (y, x) or (z, y, x), -1 unknown; voxel_size_nm: a number per axis, weighs faces by what they
    measure; None takes every face as 1.
        cristae: connected pieces of that class
        cristae_detached: pieces with less than half of their boundary on matrix. The boundary is that to known voxels
            inside the crop; a piece without any (it fills the crop) is not detached.
        cristae_reaching: 3-D only: pieces with a face on the intermembrane space, which is to reach the inner membrane.
            In a plane most true cristae do not, so there it says nothing.
        cristae_cut: 3-D only: pieces that do not, but touch the border of the box: they may reach it outside
    """
    labels = np.asarray(labels)
    pieces, number = ndimage.label(labels == classes.cristae, np.ones((3,) * labels.ndim, int))
    boundary, on_matrix, on_intermembrane = (np.zeros(number + 1) for _ in range(3))
    for axis, face in enumerate(face_sizes(voxel_size_nm, labels.ndim)):
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        for here, there in ((low, high), (high, low)):
            piece, beyond = pieces[here], labels[there]
            at = (piece > 0) & (beyond != classes.cristae) & (beyond != -1)
            for total, part in (
                (boundary, at),
                (on_matrix, at & (beyond == classes.matrix)),
                (on_intermembrane, at & (beyond == classes.intermembrane)),
            ):
                total += face * np.bincount(piece[part], minlength=number + 1)
    found = {"cristae": int(number), "cristae_detached": int(np.count_nonzero(2 * on_matrix < boundary))}
    if labels.ndim == 3:
        cut = np.zeros(number + 1, bool)
        for side in _faces(pieces):
            cut[side.ravel()] = True
        reaching = on_intermembrane > 0
        found["cristae_reaching"] = int(np.count_nonzero(reaching))
        found["cristae_cut"] = int(np.count_nonzero((cut & ~reaching)[1:]))
    return found


def counts(labels, classes=MITOCHONDRIA, voxel_size_nm=None):
    """Both for one crop or instance of labels: `shape_counts` of the inner part (cristae and matrix), named inner_…,
    and `cristae_counts`.
    """
    labels = np.asarray(labels)
    inner = (labels == classes.cristae) | (labels == classes.matrix)
    shape = shape_counts(inner, labels != -1)
    return {f"inner_{name}": value for name, value in shape.items()} | cristae_counts(labels, classes, voxel_size_nm)


def _enclosed(mask, known):
    """Numbers of what is enclosed, of those with no unknown voxel in them, and the numbered pieces around the mask."""
    outside, number = ndimage.label(~mask)
    open_ones = np.unique(np.concatenate([side.ravel() for side in _faces(outside)]))
    enclosed = np.setdiff1d(np.arange(1, number + 1), open_ones)
    doubtful = np.unique(outside[~known]) if known is not None else []
    return enclosed, np.setdiff1d(enclosed, doubtful), outside


def _faces(array):
    """The first and last plane (row, column) of every axis."""
    for axis in range(array.ndim):
        yield np.take(array, 0, axis)
        yield np.take(array, -1, axis)
