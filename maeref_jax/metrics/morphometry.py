"""What biologists measure on cristae, in nanometres; none of it was used to tune the phantom.

Everything is measured in the planes (z) of a label volume, as (sum, count) per feature, so that volumes add up:
`add` them, then `means`. Pixels need not be square in the plane; skeletons are thinned pixel by pixel all the same.
"""

import numpy as np
from scipy import ndimage
from scipy.signal import fftconvolve
from scipy.spatial import cKDTree
from skimage.morphology import skeletonize

from maeref_jax.metrics.validity import MITOCHONDRIA, Classes

Sums = dict[str, tuple[float, float]]

CORRELATION_LAGS_NM = (20, 50, 80, 120)
# Neighbours further apart than this are not neighbours but sit in other mitochondria.
FARTHEST_NEIGHBOUR_NM = 250.0


def morphometry(labels: np.ndarray, pixel_nm: float | tuple[float, float], classes: Classes = MITOCHONDRIA) -> Sums:
    """{feature: (sum, count)} of labels (z, y, x), integers, -1 unknown; `pixel_nm`: the sides of a pixel in the plane,
    (y, x), or one for both.

    lamella_thickness_nm: twice the distance to the edge, over the skeleton pixels of cristae (drawn at double size)
    lamella_spacing_nm: from skeleton pixels of one crista to the nearest skeleton pixel of another one
    cristae_share: cristae / inner (cristae and matrix), pixels
    intermembrane_share: intermembrane / foreground, pixels
    cristae_correlation_{lag}nm: two-point correlation: of pairs of inner pixels `lag` apart, the share with both on
        cristae
    """
    features: Sums = {}
    sides = np.broadcast_to(np.asarray(pixel_nm, float), 2)
    for plane in labels:
        features = add(features, _plane(plane, sides, classes))
    return features


def add(first: Sums, second: Sums) -> Sums:
    """The sums of two volumes together."""
    return {
        name: tuple(np.add(first.get(name, (0.0, 0.0)), second.get(name, (0.0, 0.0))).tolist())
        for name in first | second
    }


def means(features: Sums) -> dict[str, float]:
    """sum / count per feature; nan where nothing was counted."""
    return {name: total / count if count else float("nan") for name, (total, count) in features.items()}


def _plane(plane, sides, classes):
    cristae = plane == classes.cristae
    inner = cristae | (plane == classes.matrix)
    intermembrane = np.count_nonzero(plane == classes.intermembrane)
    inside = np.count_nonzero(inner)
    lines = skeletonize(cristae)
    return {
        "lamella_thickness_nm": _thickness(cristae, sides),
        "lamella_spacing_nm": _spacing(cristae, lines, sides),
        "cristae_share": (float(np.count_nonzero(cristae)), float(inside)),
        "intermembrane_share": (float(intermembrane), float(intermembrane + inside)),
        **_correlation(cristae, inner, sides),
    }


def _thickness(cristae, sides):
    # At double size every width is even and the measure exact. Cut lamellae go on behind the image's border, which is
    # therefore no edge.
    doubled = np.pad(cristae, 1, mode="edge").repeat(2, 0).repeat(2, 1)
    if doubled.all():
        return 0.0, 0.0
    depth = ndimage.distance_transform_edt(doubled, sides)[2:-2, 2:-2]
    lines = skeletonize(doubled)[2:-2, 2:-2]
    return float(depth[lines].sum()), float(np.count_nonzero(lines))


def _spacing(cristae, lines, sides):
    objects, count = ndimage.label(cristae, np.ones((3, 3), int))
    points = np.argwhere(lines) * sides
    if count < 2 or len(points) < 2:
        return 0.0, 0.0
    owners = objects[lines]
    total, number = 0.0, 0.0
    for owner in range(1, count + 1):
        own, others = points[owners == owner], points[owners != owner]
        if not len(own) or not len(others):
            continue
        distance, _ = cKDTree(others).query(own, distance_upper_bound=FARTHEST_NEIGHBOUR_NM)
        near = np.isfinite(distance)
        total += float(distance[near].sum())
        number += float(np.count_nonzero(near))
    return total, number


def _correlation(cristae, inner, sides):
    """Averaged over all directions: pairs are counted at once by correlating the masks with themselves. A pair is `lag`
    apart to half of a pixel's longer side.
    """
    names = [f"cristae_correlation_{lag}nm" for lag in CORRELATION_LAGS_NM]
    if not inner.any():
        return dict.fromkeys(names, (0.0, 0.0))
    reach = [int(np.ceil(max(CORRELATION_LAGS_NM) / side)) + 1 for side in sides]
    box = ndimage.find_objects(inner.astype(np.int8))[0]
    both = _self_correlation(cristae[box], reach)
    possible = _self_correlation(inner[box], reach)
    down, along = (np.arange(-far, far + 1) * side for far, side in zip(reach, sides, strict=True))
    ring = np.hypot(down[:, None], along)
    result = {}
    for name, lag in zip(names, CORRELATION_LAGS_NM, strict=True):
        at = np.abs(ring - lag) <= max(sides) / 2
        result[name] = (float(both[at].sum()), float(possible[at].sum()))
    return result


def _self_correlation(mask, reach):
    """Number of pixel pairs for each offset up to `reach` (y, x), (2 reach + 1, 2 reach + 1)."""
    mask = np.pad(mask.astype(np.float32), [(far, far) for far in reach])
    full = fftconvolve(mask, mask[::-1, ::-1], mode="same")
    centre = [size // 2 for size in mask.shape]
    return np.round(full[tuple(slice(at - far, at + far + 1) for at, far in zip(centre, reach, strict=True))])
