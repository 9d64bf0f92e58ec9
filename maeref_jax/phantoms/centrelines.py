"""Where the mitochondria of a phantom lie: bent centrelines with a varying radius, packed into a box without overlap.

Everything is in nanometres, (z, y, x), with the origin at the corner of the volume. Tubes start inside and around the
box and are cut off by it, as in a real field of view.
"""

from typing import NamedTuple

import numpy as np

STEP_NM = 20.0
ATTEMPTS = 200  # random starts before a box counts as full
SHORTEST_RADII = 5.0  # a mitochondrion that was blocked earlier than this many radii is not placed
BRANCH_RADII = 2.5  # likewise a branch, from the parent's centreline


class Tube(NamedTuple):
    """A centreline sampled every STEP_NM. Several tubes of one `instance` are one branching mitochondrion."""

    points: np.ndarray  # float64 (n, 3)
    radii: np.ndarray  # float64 (n,), distance from the centreline to the outer membrane
    instance: int  # 1, 2, …


class Packing(NamedTuple):
    """How tubes fill a box. Lengths in nanometres, probabilities in [0, 1]."""

    radius_nm: tuple[float, float] = (170.0, 240.0)
    length_nm: tuple[float, float] = (2000.0, 8000.0)
    gap_nm: tuple[float, float] = (40.0, 200.0)  # free cytoplasm kept between two mitochondria
    touching: float = 0.2  # probability that a mitochondrion may lie against its neighbours
    branching: float = 0.35  # probability that a mitochondrion sends out a branch
    rejoining: float = 0.75  # probability that a branch comes back to its mitochondrion
    tilt: float = 0.03  # standard deviation of the slope out of the plane
    layer_nm: float = 500.0  # cells are flat: mitochondria lie in layers about this far apart
    scatter_nm: float = 10.0  # around the middle of a layer
    cover: float = 0.32  # stop when the tubes would cover this share of the middle plane of the layers


def pack_tubes(rng: np.random.Generator, extent_nm: np.ndarray, packing: Packing) -> list[Tube]:
    """Tubes that fill the box (0, 0, 0) … `extent_nm` until `packing.cover` is reached or no tube finds room."""
    tubes: list[Tube] = []
    instance = 0
    margin = packing.radius_nm[1]
    layers = max(1, round(extent_nm[0] / packing.layer_nm))
    area = layers * extent_nm[1] * extent_nm[2]
    for _ in range(ATTEMPTS):
        if sum(_covered(tube, extent_nm) for tube in tubes) > packing.cover * area:
            break
        radius = rng.uniform(*packing.radius_nm)
        gap = -0.15 * radius if rng.random() < packing.touching else rng.uniform(*packing.gap_nm)
        start = rng.uniform(-0.5 * margin, extent_nm + 0.5 * margin)
        layer = (rng.integers(layers) + 0.5) * extent_nm[0] / layers
        start[0] = layer + rng.normal(0, packing.scatter_nm)
        length = rng.uniform(*packing.length_nm)
        if not _is_free(start, radius, tubes, gap):
            continue
        tube = _grow(rng, start, radius, length, tubes, gap, packing.tilt, instance + 1)
        if len(tube.points) * STEP_NM < SHORTEST_RADII * radius:
            continue
        instance += 1
        tubes.append(tube)
        if rng.random() < packing.branching:
            tubes += _branches(rng, tube, tubes, gap, packing)
    return tubes


def _covered(tube: Tube, extent_nm: np.ndarray) -> float:
    inside = np.all((tube.points > 0) & (tube.points < extent_nm), axis=1)
    return float(2 * STEP_NM * tube.radii[inside].sum())


def _grow(rng, start, radius, length, others, gap, tilt, instance) -> Tube:
    """Walks from `start` both ways with slowly changing curvature until the length is reached or the way is blocked."""
    direction = _unit(np.array([rng.normal(0, tilt), *_unit(rng.standard_normal(2))]))
    count = int(length / STEP_NM)
    profile = _radius_profile(rng, radius, count)
    forward = _walk(rng, start, direction, profile[count // 2 :], others, gap)
    backward = _walk(rng, start, -direction, profile[: count // 2][::-1], others, gap)
    points = np.concatenate([backward[::-1], start[None], forward])
    first = count // 2 - len(backward)
    radii = np.append(profile, profile[-1])[first : first + len(points)]
    return Tube(points, radii, instance)


def _walk(rng, start, direction, radii, others, gap) -> np.ndarray:
    # The turn per step is an Ornstein-Uhlenbeck process: bends, not jitter. Bends out of the plane are rarer.
    turn = rng.normal(0, 1, 3) * [0.15, 1, 1]
    points = []
    position = start
    for radius in radii:
        turn = 0.92 * turn + 0.39 * rng.normal(0, 1, 3) * [0.15, 1, 1]
        bend = turn - direction * (turn @ direction)
        # A bend tighter than the tube's own radius would fold the cross-sections over one another.
        curvature = np.minimum(np.linalg.norm(bend) * 0.55, 0.6) / radius
        bent = _unit(direction + _unit(bend) * curvature * STEP_NM)
        sideways = _unit(np.cross(direction, [1.0, 0, 0])) * 0.6 / radius * STEP_NM
        # A tube that meets another one turns aside and runs along it, as far as its stiffness allows.
        ways = [bent, _unit(direction + sideways), _unit(direction - sideways)]
        way = next((way for way in ways if _is_free(position + STEP_NM * way, radius, others, gap)), None)
        if way is None:
            break
        direction = way
        position = position + direction * STEP_NM
        points.append(position)
    return np.array(points).reshape(-1, 3)


def _branches(rng, parent, tubes, gap, packing) -> list[Tube]:
    """One branch from the side of `parent`; it ends free or comes back further along, leaving a hole."""
    others = [tube for tube in tubes if tube.instance != parent.instance]
    count = len(parent.points)
    index = int(rng.integers(count // 4, max(count // 4 + 1, 3 * count // 4)))
    radius = 0.85 * parent.radii[index]
    tangent = _unit(parent.points[min(index + 2, count - 1)] - parent.points[max(index - 2, 0)])
    side = _unit(np.cross(tangent, [1.0, 0, 0])) * rng.choice([-1, 1])
    if rng.random() < packing.rejoining:
        points = _arch(parent.points[max(0, index - 14) : index + 15], side, 3.2 * radius)
        free = all(_is_free(point, radius, others, gap) for point in points)
        return [Tube(points, np.full(len(points), radius), parent.instance)] if free else []
    length = rng.uniform(*packing.length_nm) / 2
    direction = _unit(side + 0.5 * tangent * rng.choice([-1, 1]))
    profile = _radius_profile(rng, radius, int(length / STEP_NM))
    walked = _walk(rng, parent.points[index], direction, profile, others, gap)
    if len(walked) * STEP_NM < BRANCH_RADII * radius:
        return []
    return [Tube(walked, profile[: len(walked)], parent.instance)]


def _arch(base: np.ndarray, side: np.ndarray, height: float) -> np.ndarray:
    """A bow over a piece of a centreline, resampled to STEP_NM."""
    bow = base + side * (height * np.sin(np.linspace(0, np.pi, len(base)))[:, None] ** 0.6)
    along = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(bow, axis=0), axis=1))])
    at = np.arange(0, along[-1], STEP_NM)
    return np.stack([np.interp(at, along, bow[:, axis]) for axis in range(3)], axis=1)


def _radius_profile(rng, radius, count) -> np.ndarray:
    at = np.arange(count) * STEP_NM
    waves = sum(
        amplitude * np.sin(2 * np.pi * at / rng.uniform(*period) + rng.uniform(0, 2 * np.pi))
        for amplitude, period in ((0.12, (900, 1600)), (0.06, (400, 700)))
    )
    return radius * (1 + waves)


def _is_free(point, radius, others, gap) -> bool:
    return all(np.min(np.linalg.norm(tube.points - point, axis=1) - tube.radii) > radius + gap for tube in others)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(np.linalg.norm(vector), 1e-12)
