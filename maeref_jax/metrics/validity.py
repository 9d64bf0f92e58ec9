"""How plausible mitochondrial masks look, with no truth needed: edge counts between classes, and skeletons.

Source: Sauer et al., CVPR Workshops 2024, section 4. What the paper leaves open is defined here.

Laws of this file:
- A crop yields integer counts (`counts`), and counts add. A metric is a ratio of counts (`metrics`); over
  many crops `summary` gives its mean and standard error, as the paper does.
- An interface is a pair of face neighbours (4 in 2-D, 6 in 3-D) of two classes. The border of the crop is no
  interface, and neither is the border to unknown (-1) voxels.
- Inner means cristae or matrix. Foreground means every known class but background.
- Empty masks: counts are 0, ratios over nothing are NaN and no mean counts them.

Pieces, holes and cristae on their own are in topology.py; single mitochondria are cut out by instances.py.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from skimage.measure import euler_number
from skimage.morphology import skeletonize

from maeref_jax.errors import BadInput
from maeref_jax.metrics import skeleton

METRICS = ("end_points", "cycles", "boundary_to_area", "cristae_boundary", "inner_background")
# The control group of the paper's Table 2 as (mean, standard error); fractions, not per cent.
PAPER_CONTROL = {
    "end_points": (3.55, 0.30),
    "cycles": (0.26, 0.14),
    "boundary_to_area": (0.1214, 0.0094),
    "cristae_boundary": (0.1009, 0.0088),
    "inner_background": (0.0, 0.0),
}
_EIGHT = np.ones((3, 3), int)


class Classes(NamedTuple):
    """The class ids that the validity metrics give a meaning to."""

    background: int
    intermembrane: int
    cristae: int
    matrix: int


MITOCHONDRIA = Classes(background=0, intermembrane=1, cristae=2, matrix=3)


def edge_count(first, second, voxel_size_nm=None):
    """Number of face-neighbour pairs with one voxel in `first` and the other in `second`, an int.

    first, second: bool arrays of one shape, 1-D to 3-D, disjoint.
    voxel_size_nm: a number per axis; then the sum of what the faces measure, a float: nm in 2-D, nm² in 3-D.
    """
    total = 0
    for axis, face in enumerate(face_sizes(voxel_size_nm, first.ndim)):
        low = (slice(None),) * axis + (slice(None, -1),)
        high = (slice(None),) * axis + (slice(1, None),)
        pairs = np.count_nonzero(first[low] & second[high]) + np.count_nonzero(second[low] & first[high])
        total += int(pairs) * face
    return total


def face_sizes(voxel_size_nm, dims):
    """Of the face between two neighbours along each axis: its length in nm (2-D) or area in nm² (3-D); 1 without a
    voxel size. Raises BadInput where that has another number of axes.
    """
    if voxel_size_nm is None:
        return (1,) * dims
    if len(voxel_size_nm) != dims:
        raise BadInput(f"expected a voxel size for {dims} axes, found {voxel_size_nm}")
    return tuple(float(np.prod(voxel_size_nm) / side) for side in voxel_size_nm)


def skeleton_counts(mask):
    """Lee thinning of a mask and its graph.

    mask: bool (y, x), or (z, y, x), of which enclosed holes are filled first (skeleton.py).
    Returns {end_points, branches, cycles, skeleton_components: int}, all 8-connected (26 in 3-D).
        end_points: skeleton voxels with exactly one neighbour; an isolated one has none, so it is none.
        branches: pieces left when junctions (three or more neighbours) are taken out, isolated voxels aside.
        cycles: components minus the Euler number of the skeleton.
    An empty mask gives zeros; one voxel gives one component and nothing else.
    """
    if not mask.any():
        return {"end_points": 0, "branches": 0, "cycles": 0, "skeleton_components": 0}
    if mask.ndim == 3:
        found = skeleton.measure(skeleton.skeleton_of(mask), None)
        pieces = int(ndimage.label(mask, np.ones((3, 3, 3), int))[1])
        return {name: found[name] for name in ("end_points", "branches", "cycles")} | {"skeleton_components": pieces}
    thin, neighbours = thinned(mask)
    components = ndimage.label(thin, _EIGHT)[1]
    return {
        "end_points": int(np.count_nonzero(thin & (neighbours == 1))),
        "branches": int(ndimage.label(thin & (neighbours > 0) & (neighbours < 3), _EIGHT)[1]),
        "cycles": int(components - euler_number(thin, connectivity=2)),
        "skeleton_components": int(components),
    }


def thinned(mask):
    """Lee's thinning of a bool mask (y, x): bool (y, x), and at each of its pixels the number of neighbours in it."""
    thin = skeletonize(mask, method="lee").astype(bool)
    return thin, (ndimage.convolve(thin.astype(np.int8), _EIGHT, mode="constant") - thin) * thin


def counts(labels, classes=MITOCHONDRIA, voxel_size_nm=None):
    """Every count the validity metrics are made of, for one crop or one instance.

    labels: integers (y, x), or (z, y, x); -1 unknown: no part of any class, interface or area.
    voxel_size_nm: a number per axis; then edges are lengths in nm and the area is in nm² (3-D: areas and a volume), so
        that boundary_to_area, in 1/nm, no longer depends on the pixel size. None counts voxels and their faces.
    Returns {name: number}; those of several crops may be added. Values of 2-D and of 3-D are never compared.
    """
    labels = np.asarray(labels)
    background, known = labels == classes.background, labels != -1
    intermembrane, cristae = labels == classes.intermembrane, labels == classes.cristae
    inner = cristae | (labels == classes.matrix)
    voxel = 1 if voxel_size_nm is None else float(np.prod(voxel_size_nm))

    def edges(first, second):
        return edge_count(first, second, voxel_size_nm)

    return {
        "pixels": int(np.count_nonzero(known)),
        "inner_area": int(np.count_nonzero(inner)) * voxel,
        "inner_edges": edges(inner, known & ~inner),
        "cristae_intermembrane_edges": edges(cristae, intermembrane),
        "inner_intermembrane_edges": edges(inner, intermembrane),
        "inner_background_edges": edges(inner, background),
        "foreground_background_edges": edges(known & ~background, background),
        **skeleton_counts(inner),
    }


def metrics(crop_counts):
    """The five reported metrics of one crop, in the order of METRICS.

    crop_counts: as made by `counts`.
    Returns {name: float}; the last three are fractions (0.12 is 12 %), NaN where the denominator is zero:
        boundary_to_area: edges of inner to any other class / pixels of inner; it depends on the pixel size
        cristae_boundary: edges (cristae|intermembrane) / edges (inner|intermembrane)
        inner_background: edges (inner|background) / edges (foreground|background)
    """
    return {
        "end_points": float(crop_counts["end_points"]),
        "cycles": float(crop_counts["cycles"]),
        "boundary_to_area": _ratio(crop_counts["inner_edges"], crop_counts["inner_area"]),
        "cristae_boundary": _ratio(
            crop_counts["cristae_intermembrane_edges"], crop_counts["inner_intermembrane_edges"]
        ),
        "inner_background": _ratio(crop_counts["inner_background_edges"], crop_counts["foreground_background_edges"]),
    }


def summary(crops_counts):
    """Mean and standard error of each metric over crops.

    crops_counts: list of `counts`, one per crop; concatenate lists to join volumes.
    Returns {metric: {"mean": float, "se": float, "crops": int}}: crops where the metric is undefined are left
    out (`crops` says how many remain); se = standard deviation (n - 1) / sqrt(n), NaN below two crops.
    It takes crops as independent, which neighbouring slices are not.
    """
    rows = [metrics(crop_counts) for crop_counts in crops_counts]
    return {name: mean_and_error([row[name] for row in rows]) for name in METRICS}


def paper_control():
    """The control group of the paper's Table 2 in the form of `summary`; the number of its crops is not known."""
    return {name: {"mean": mean, "se": error} for name, (mean, error) in PAPER_CONTROL.items()}


def mean_and_error(values):
    """{"mean", "se", "crops"} of a list of floats, leaving NaN out; NaN where there are too few."""
    values = np.asarray(values, np.float64)
    values = values[~np.isnan(values)]
    mean = values.mean() if values.size else np.nan
    error = values.std(ddof=1) / np.sqrt(values.size) if values.size > 1 else np.nan
    return {"mean": float(mean), "se": float(error), "crops": int(values.size)}


def crops(labels, *, size=128, min_foreground=0.3, stride=None, slice_step=1, background=0):
    """Where to look: square in-plane crops that hold enough foreground, on a lattice anchored at the origin.

    labels: integers (z, y, x); choose the crops once (on the truth, if known) and use them on every map.
    size: side of a crop in voxels; an axis shorter than that is taken whole and not padded.
    min_foreground: keep a crop if MORE than this share of its pixels is neither background nor unknown.
    stride: step in y and x; None means `size`: no overlap. A remainder at the far border is left out.
    slice_step: look at every n-th slice.
    Returns a list of indices (z, slice, slice) with labels[index] of shape (size, size).
    """
    stride = size if stride is None else stride
    depth, height, width = labels.shape
    foreground = (labels != background) & (labels != -1)
    found = []
    for z in range(0, depth, slice_step):
        for y in range(0, max(height - size, 0) + 1, stride):
            for x in range(0, max(width - size, 0) + 1, stride):
                index = (z, slice(y, min(y + size, height)), slice(x, min(x + size, width)))
                if foreground[index].mean() > min_foreground:
                    found.append(index)
    return found


def original_boundaries(labels):
    """The boundary pixels of the authors' published code, for comparison with it only.

    labels: integers (y, x) in the scheme 0 background, 1 intermembrane, 2 cristae, 3 matrix, 4 ambiguous.
    Returns {name: bool (y, x)}. It counts pixels, not edges; 4 belongs to inner; outside is {0, 1}.
        inner: inner pixels with a neighbour outside
        cristae: cristae with a neighbour outside; so cristae on background count too
        inner_background: inner pixels with a background neighbour
    """
    inner = labels >= 2
    beside_outside, beside_background = _beside(labels <= 1), _beside(labels == 0)
    return {
        "inner": inner & beside_outside,
        "cristae": (labels == 2) & beside_outside,
        "inner_background": inner & beside_background,
    }


def _beside(mask):
    """True where a face neighbour is in the mask (the pixel itself may be too)."""
    return ndimage.convolve(mask.astype(np.int8), ndimage.generate_binary_structure(2, 1), mode="constant") > mask


def _ratio(numerator, denominator):
    return numerator / denominator if denominator else float("nan")
