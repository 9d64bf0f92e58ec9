"""From centrelines to labels: outer membrane, intermembrane shell, matrix, cristae that grow from the inner membrane.

Every voxel gets its signed distance to the nearest tube and its place along and across it. A crista is a lamella
across the tube: a slightly tilted, bent and rough plate of its own thickness that reaches inwards from one side to its
own depth. Its rim stays clear of the inner membrane but for one sector, the junction, where it is attached. A plane
through it therefore often shows a lamella surrounded by matrix, as in real truth.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from maeref_jax.phantoms.centrelines import STEP_NM, Tube
from maeref_jax.phantoms.smooth_noise import smooth_noise

# Distances are known this far outside the outer membrane; beyond it a voxel is plain background.
OUTSIDE_NM = 60.0
# Smaller pieces of cristae or of the inside are taken out: a cube of 45 nm.
SMALLEST_NM3 = 9e4


class Cristae(NamedTuple):
    """Lamellae. Lengths in nanometres, ranges are uniform draws."""

    thickness_nm: tuple[float, float] = (38.0, 54.0)
    spacing_nm: float = 86.0  # mean distance between neighbouring lamellae along the tube
    spacing_spread: float = 0.35  # standard deviation of its logarithm
    sparse: float = 0.08  # probability of a stretch without cristae after a lamella
    reach: tuple[float, float] = (0.55, 1.3)  # how far across the tube, 1 = to the opposite side
    junction_degrees: tuple[float, float] = (15.0, 60.0)  # half angle of the attached sector of the rim
    rim_nm: float = 18.0  # matrix left between the free rim and the inner membrane
    tilt: float = 0.5  # largest slope against the cross-section


def build_anatomy(
    rng: np.random.Generator,
    tubes: list[Tube],
    shape: tuple[int, int, int],
    voxel_size_nm: tuple[float, float, float],
    shell_nm: float,
    roughness_nm: float,
    cristae: Cristae,
) -> tuple[np.ndarray, np.ndarray]:
    """Labels int16 0..3 and instances int32 (0 none), both (z, y, x). The shell is closed in 3-D, 6-neighbourhood."""
    nearest = np.full(shape, OUTSIDE_NM, np.float32)
    second = np.full(shape, OUTSIDE_NM, np.float32)  # nearest tube of another instance
    instances = np.zeros(shape, np.int32)
    sheet = np.zeros(shape, np.float32)  # distance to the mid-plane of the nearest lamella / half its thickness
    edge = np.zeros(shape, np.float32)  # distance from the end of its reach, inwards
    junction = np.zeros(shape, bool)
    half = np.ones(shape, np.float32)
    warp = smooth_noise(rng, shape, voxel_size_nm, 70.0) * 14.0
    for tube in tubes:
        voxels = _voxels_near(tube, shape, voxel_size_nm)
        if not len(voxels[0]):
            continue
        distance, place = _place_in_tube(tube, voxels, voxel_size_nm)
        old = nearest[voxels]
        wins = distance < old
        foreign = (instances[voxels] != tube.instance) & (instances[voxels] > 0)
        rival = np.where(wins, np.where(foreign, old, OUTSIDE_NM), np.where(foreign, distance, OUTSIDE_NM))
        second[voxels] = np.minimum(second[voxels], rival)
        won = tuple(index[wins] for index in voxels)
        nearest[won] = distance[wins]
        instances[won] = tube.instance
        lamellae = _lamellae(rng, tube, [part[wins] for part in place], warp[won], cristae)
        sheet[won], edge[won], junction[won], half[won] = lamellae

    rough = smooth_noise(rng, shape, voxel_size_nm, 90.0) * roughness_nm
    # Between two touching mitochondria the membranes meet on the surface halfway.
    depth = np.minimum(-nearest + rough, 0.5 * (second - nearest))
    instances[depth <= 0] = 0
    uneven = 0.08 * smooth_noise(rng, shape, voxel_size_nm, 120.0) + 0.2 * smooth_noise(rng, shape, voxel_size_nm, 18.0)
    inner_depth = depth - shell_nm * (1 + uneven)
    # The majority of 3 x 3 takes out the specks that roughness leaves; they would be holes in every skeleton.
    smooth = ndimage.uniform_filter((inner_depth > 0).astype(np.float32), (1, 3, 3)) > 0.5
    inner = _without_specks(smooth & (instances > 0) & ~_touches_another(instances), voxel_size_nm)
    free_rim = np.where(junction, edge, np.minimum(edge, inner_depth - cristae.rim_nm))
    overhang = np.maximum(0, half - free_rim)  # rounds the rim off
    crista = _without_specks(inner & (np.hypot(sheet, overhang) < half), voxel_size_nm)
    labels = np.where(instances > 0, 1, 0)
    labels[inner] = 3
    labels[crista] = 2
    return labels.astype(np.int16), instances


def _voxels_near(tube, shape, voxel_size_nm) -> tuple[np.ndarray, ...]:
    """Indices of the voxels that can lie within OUTSIDE_NM of the tube; found on a coarse grid to save time."""
    coarse = (4, 8, 8)
    counts = [-(-size // step) for size, step in zip(shape, coarse, strict=True)]
    centres = np.stack(np.meshgrid(*[np.arange(count) for count in counts], indexing="ij"), axis=-1)
    centres_nm = (centres + 0.5) * coarse * np.array(voxel_size_nm)
    limit = tube.radii.max() + OUTSIDE_NM + 0.5 * np.linalg.norm(np.array(coarse) * voxel_size_nm)
    distance, _ = cKDTree(tube.points).query(centres_nm, distance_upper_bound=limit)
    near = np.isfinite(distance)
    for axis, step in enumerate(coarse):
        near = near.repeat(step, axis)
    return np.nonzero(near[tuple(slice(0, size) for size in shape)])


def _place_in_tube(tube, voxels, voxel_size_nm):
    """Signed distance to the outer membrane (negative inside), and (along, across, up, radius) of every voxel."""
    position = (np.stack(voxels, axis=1) + 0.5) * np.array(voxel_size_nm)
    _, index = cKDTree(tube.points).query(position)
    tangents = np.gradient(tube.points, axis=0)
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    across_axis, up_axis = _frame(tangents)
    offset = position - tube.points[index]
    step = np.clip(np.einsum("ij,ij->i", offset, tangents[index]), -STEP_NM / 2, STEP_NM / 2)
    # Projecting onto the segment, not the sample, keeps the surface smooth between samples.
    offset_side = offset - step[:, None] * tangents[index]
    along = index * STEP_NM + np.einsum("ij,ij->i", offset, tangents[index])
    radius = np.interp(index * STEP_NM + step, np.arange(len(tube.radii)) * STEP_NM, tube.radii)
    distance = np.linalg.norm(offset_side, axis=1) - radius
    across = np.einsum("ij,ij->i", offset, across_axis[index])
    up = np.einsum("ij,ij->i", offset, up_axis[index])
    return distance.astype(np.float32), (along, across, up, radius)


def _frame(tangents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two unit vectors across the tube that turn with it as little as possible (parallel transport)."""
    across = np.empty_like(tangents)
    vector = np.cross(tangents[0], [1.0, 0.0, 0.0])
    if np.linalg.norm(vector) < 1e-3:
        vector = np.array([0.0, 1.0, 0.0])
    for index, tangent in enumerate(tangents):
        vector = vector - tangent * (vector @ tangent)
        vector /= np.linalg.norm(vector)
        across[index] = vector
    return across, np.cross(tangents, across)


def _lamellae(rng, tube, place, warp, cristae):
    """Of each voxel's nearest lamella: distance to the mid-plane, to the end of its reach, junction, half thickness."""
    along, across, up, radius = place
    length = len(tube.points) * STEP_NM
    reserve = 2 * tube.radii.max()  # the caps at both ends and tilted planes reach beyond the centreline
    positions = []
    at = -reserve
    while at < length + reserve:
        positions.append(at)
        at += cristae.spacing_nm * np.exp(rng.normal(-0.5 * cristae.spacing_spread**2, cristae.spacing_spread))
        at = max(at, positions[-1] + cristae.thickness_nm[1] + 25.0)
        if rng.random() < cristae.sparse:
            at += rng.uniform(1.0, 2.5) * cristae.spacing_nm
    positions = np.array(positions)
    count = len(positions)
    thickness = rng.uniform(*cristae.thickness_nm, count)
    side = rng.uniform(0, 2 * np.pi, count)
    reach = rng.uniform(*cristae.reach, count)
    opening = np.deg2rad(rng.uniform(*cristae.junction_degrees, count))

    heading, phase = rng.uniform(0, 2 * np.pi, 2)
    slope = cristae.tilt * np.sin(phase + 2 * np.pi * along / rng.uniform(1200, 2500))
    tilted = across * np.cos(heading) + up * np.sin(heading)
    bowl = rng.normal(0, 0.12) * (across**2 + up**2) / radius
    field = along + slope * tilted + bowl + warp
    nearest = np.clip(np.searchsorted(0.5 * (positions[1:] + positions[:-1]), field), 0, count - 1)
    sheet = np.abs(field - positions[nearest]) / np.sqrt(1 + slope**2)
    toward = across * np.cos(side[nearest]) + up * np.sin(side[nearest])
    edge = toward - (1 - 2 * reach[nearest]) * radius
    junction = toward > np.cos(opening[nearest]) * np.hypot(across, up)
    return sheet, edge, junction, thickness[nearest] / 2


def _without_specks(mask: np.ndarray, voxel_size_nm) -> np.ndarray:
    """Drops the crumbs that rough cuts leave behind; nobody could draw them."""
    objects, _ = ndimage.label(mask)
    large = np.bincount(objects.ravel()) * np.prod(voxel_size_nm) >= SMALLEST_NM3
    large[0] = False
    return large[objects]


def _touches_another(instances: np.ndarray) -> np.ndarray:
    """Voxels with a 6-neighbour of another instance or of background. The faces of the volume are no surface."""
    touches = np.zeros(instances.shape, bool)
    for axis in range(3):
        ahead = np.moveaxis(instances, axis, 0)
        marked = np.moveaxis(touches, axis, 0)
        differs = ahead[1:] != ahead[:-1]
        marked[1:] |= differs
        marked[:-1] |= differs
    return touches
