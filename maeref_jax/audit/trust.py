"""When to trust a repair: every repaired blob is green, amber or red.

A blob is a connected piece of hidden voxels, by faces, in 3-D. Four numbers rate it, each with a limit up to which it
is green and one beyond which it is red (`Limits`); the worst of them counts, and what is neither is amber:

    confidence   mean over its voxels of the refiner's probability of the class that it chose
    radius       the largest distance, in a slice, from one of its tokens to a visible one, in token sides
    context      the share of visible tokens in the square around each of its tokens, mean
    foreignness  how often visible voxels next to it are filled in wrongly when they are hidden as a test; optional

Distances and context are those in a slice: there the refiner looks. What lies outside the volume, and tokens without
any known label, are not visible. The limits are choices; docs/evaluation.md says what came of them. Memory: a block and
what is near it, and a few numbers per blob.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import scipy

from maeref_jax.errors import BadInput
from maeref_jax.masking.exact import any_in_tokens, spread, sum_in_tokens
from maeref_jax.results.files import write_lines
from maeref_jax.results.ownership import written
from maeref_jax.results.place import Output
from maeref_jax.volumes.components import Components, extend_boxes, find_components, pieces_of
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import UNKNOWN_ON_DISK
from maeref_jax.volumes.windows import Box, whole

RATINGS = ("green", "amber", "red")  # 1, 2, 3 in labels/trust
GREEN, AMBER, RED = 1, 2, 3
LARGEST_RADIUS = 16  # token sides; what is farther counts as this far
COLUMNS = (
    *("blob", "rating", "voxels", "changed", "confidence", "radius_tokens", "radius_nm", "context", "foreignness"),
    *("left", "start_z", "start_y", "start_x", "stop_z", "stop_y", "stop_x"),
)
_SUMS = ("voxels", "sure", "seen", "tested", "wrong")


class Limits(NamedTuple):
    """Of each number: (green up to here, red beyond). reach: half the side of the square of the context, in tokens, the
    token itself not counted.
    """

    confidence: tuple[float, float] = (0.8, 0.6)
    radius: tuple[float, float] = (2.0, 4.0)
    context: tuple[float, float] = (0.6, 0.3)
    foreignness: tuple[float, float] = (0.2, 0.5)
    reach: int = 4


class Blobs(NamedTuple):
    """The blobs 1 … count, as arrays with an unused first entry.

    found: the components; rating: uint8; sums: int64 arrays by name; radius_tokens, radius_nm: float64, the latter None
    without a voxel size; low, high: int64 (count + 1, 3), the bounding boxes
    """

    found: Components
    rating: np.ndarray
    sums: dict[str, np.ndarray]
    radius_tokens: np.ndarray
    radius_nm: np.ndarray | None
    measures: dict[str, np.ndarray]
    low: np.ndarray
    high: np.ndarray


def check(limits: Limits) -> None:
    """Raises BadInput for limits that contradict themselves."""
    for name, falling in (("confidence", True), ("radius", False), ("context", True), ("foreignness", False)):
        green, red = getattr(limits, name)
        if (green < red) if falling else (green > red):
            raise BadInput(
                f"trust_limits.{name} is {(green, red)}, expected (green up to here, red beyond), the first one "
                f"{'higher' if falling else 'lower'}"
            )
    if limits.radius[1] >= LARGEST_RADIUS or limits.reach < 1:
        raise BadInput(
            f"trust_limits.radius is {limits.radius}, expected below {LARGEST_RADIUS} token sides; reach is "
            f"{limits.reach}, expected at least 1"
        )


def rate(confidence, radius, context, foreignness, limits: Limits) -> np.ndarray:
    """uint8 of RATINGS, 1 to 3: the worst of the four numbers, arrays of one shape. NaN is no reason against."""
    pairs = ((confidence, limits.confidence, -1), (radius, limits.radius, 1))
    pairs += ((context, limits.context, -1), (foreignness, limits.foreignness, 1))
    rating = np.full(np.shape(confidence), GREEN, np.uint8)
    for value, (green, red), sign in pairs:
        value = np.asarray(value, float) * sign
        rating = np.maximum(rating, np.where(value > red * sign, RED, np.where(value > green * sign, AMBER, GREEN)))
    return rating.astype(np.uint8)


def hole_radius(visible: np.ndarray, side: tuple[float, float] = (1.0, 1.0)) -> np.ndarray:
    """float64 (z, rows, columns): the distance of each token's centre to the next visible one in its slice, in the unit
    of `side` (height and width of a token); 0 where it is visible itself, at most LARGEST_RADIUS times the longer side.

    visible: bool (z, rows, columns), with a margin of LARGEST_RADIUS around what is asked for.
    """
    distance = np.full(visible.shape, np.inf)
    for plane, found in zip(visible, distance, strict=True):
        if plane.any():
            scipy.ndimage.distance_transform_edt(~plane, sampling=side, distances=found)
    return np.minimum(distance, LARGEST_RADIUS * max(side))


def near_sum(values: np.ndarray, reach: int) -> np.ndarray:
    """int64 (z, rows, columns): the sum of whole numbers over the square of `reach` tokens around each token, in its
    slice, the token itself not counted; outside is 0.
    """
    total = values.astype(np.int64)
    for axis in (1, 2):
        total = scipy.ndimage.convolve1d(total, np.ones(2 * reach + 1, np.int64), axis, mode="constant")
    return total - values


def tokens_to_test(hidden: np.ndarray, visible: np.ndarray, first: tuple[int, int], size: int = 1) -> np.ndarray:
    """Bool (z, rows, columns): which visible tokens are hidden as a test: those `squares_near` a hidden one, so that
    each keeps visible neighbours. first, size: as there.
    """
    return squares_near(hidden, first, size) & ~hidden & visible


def squares_near(tokens: np.ndarray, first: tuple[int, int], size: int) -> np.ndarray:
    """Bool (z, rows, columns): within `size` tokens of one that is True, by sides or corners, and on the white squares,
    of `size` tokens a side, of a chessboard. first: row and column, in the whole volume, of the array's first token.
    """
    beside = scipy.ndimage.binary_dilation(tokens, np.ones((1, 2 * size + 1, 2 * size + 1), bool))
    rows, columns = np.ogrid[: tokens.shape[1], : tokens.shape[2]]
    return beside & (((rows + first[0]) // size + (columns + first[1]) // size) % 2 == 0)


def tested_volume(hidden: Volume, labels: Volume, token: int, size: int = 1) -> Volume:
    """Bool Volume, constant inside a token, of `tokens_to_test`. hidden: bool; labels: int16, -1 unknown. To be read in
    boxes that begin at tokens.
    """
    reach = size * token

    def read(box: Box) -> np.ndarray:
        around = box.grow((0, reach, reach)).intersect(whole(hidden.shape))
        covered = any_in_tokens(hidden.read(around), token)
        visible = any_in_tokens(labels.read(around) >= 0, token) & ~covered
        chosen = tokens_to_test(covered, visible, (around.start[1] // token, around.start[2] // token), size)
        return spread(chosen, token, around.shape)[box.within(around).slices]

    return Volume("tested", hidden.shape, np.dtype(bool), None, None, None, read)


def rate_blobs(
    output: Output,
    arrays: dict[str, Volume],
    block: tuple[int, int, int],
    token: int,
    voxel_size_nm: tuple[float, float, float] | None,
    limits: Limits,
) -> Blobs:
    """Finds, measures and rates the blobs and writes "trust" of `arrays`, block by block. The result does not depend on
    the blocks, nor on "refined".

    arrays: "hidden", "initial", "confidence", "trust", and "tested" where foreignness was asked for.
    """

    def mask(box):
        return arrays["hidden"].read(box) != 0

    shape = arrays["hidden"].shape
    found = find_components(mask, shape, block, 1, output.progress)
    sums = {name: np.zeros(found.count + 1, np.int64) for name in _SUMS}
    radius = {name: np.zeros(found.count + 1) for name in ("tokens", "nm")}
    low, high = np.full((found.count + 1, 3), np.iinfo(np.int64).max), np.zeros((found.count + 1, 3), np.int64)
    side_nm = voxel_size_nm and (token * voxel_size_nm[1], token * voxel_size_nm[2])
    for box, pieces, number in pieces_of(found, mask, f"{output.stem}: ratings of repairs"):
        if not pieces.any():
            continue
        fields = _fields(arrays, box, token, side_nm, limits.reach)
        fields |= {"voxels": np.ones(box.shape), "sure": arrays["confidence"].read(box)}
        inside = pieces > 0
        owner = pieces[inside]
        for name in _SUMS:
            if name in fields:
                counted = np.bincount(owner, fields[name][inside], len(number)).astype(np.int64)
                np.add.at(sums[name], number, counted)
        for name, largest in radius.items():
            if f"radius_{name}" in fields:
                np.maximum.at(largest, number[owner], fields[f"radius_{name}"][inside])
        extend_boxes(low, high, pieces, number, box.start)
    voxels = np.maximum(sums["voxels"], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        measures = {
            "confidence": sums["sure"] / voxels / 255,
            "context": sums["seen"] / voxels / ((2 * limits.reach + 1) ** 2 - 1),
            "foreignness": sums["wrong"] / sums["tested"],  # NaN where nothing was tested
        }
    rating = rate(measures["confidence"], radius["tokens"], measures["context"], measures["foreignness"], limits)
    rating[0] = 0
    for box, pieces, number in pieces_of(found, mask, f"{output.stem}: ratings of repairs"):
        arrays["trust"].write(box, rating[number[pieces]])
    nm = radius["nm"] if side_nm else None
    return Blobs(found, rating, sums, radius["tokens"], nm, measures, low, high)


def _fields(arrays, box, token, side_nm, reach) -> dict[str, np.ndarray]:
    """What the tokens of the block are measured by, at their voxels."""
    margin = token * max(LARGEST_RADIUS, reach)
    asked = box.grow((0, margin, margin))
    inside = asked.intersect(whole(arrays["hidden"].shape))
    hidden = any_in_tokens(arrays["hidden"].read(inside) != 0, token)
    visible = any_in_tokens(arrays["initial"].read(inside) != UNKNOWN_ON_DISK, token) & ~hidden
    # Beyond the faces of the volume nothing is visible.
    before = [(start - at) // token for start, at in zip(inside.start, asked.start, strict=True)]
    after = [-(-(stop - at) // token) for stop, at in zip(asked.stop, inside.stop, strict=True)]
    visible = np.pad(visible, [(0, 0), *zip(before[1:], after[1:], strict=True)])
    fields = {"radius_tokens": hole_radius(visible), "seen": near_sum(visible, reach)}
    if side_nm:
        fields["radius_nm"] = hole_radius(visible, side_nm)
    if "tested" in arrays:
        tested = arrays["tested"].read(inside)
        for name, chosen in (("tested", tested > 0), ("wrong", tested == 2)):
            inner = sum_in_tokens(chosen, token)
            fields[name] = near_sum(np.pad(inner, [(0, 0), *zip(before[1:], after[1:], strict=True)]), 1)
    rows, columns = margin // token, margin // token
    return {name: spread(values[:, rows:, columns:], token, box.shape) for name, values in fields.items()}


def counts(blobs: Blobs) -> dict[str, Any]:
    """{"green": {"blobs", "voxels"}, "amber": …, "red": …} for the sidecar."""
    chosen = {name: blobs.rating == value for value, name in enumerate(RATINGS, 1)}
    voxels = blobs.sums["voxels"]
    return {name: {"blobs": int(some.sum()), "voxels": int(voxels[some].sum())} for name, some in chosen.items()}


def write_table(output: Output, arrays: dict[str, Volume], blobs: Blobs, leave: bool) -> None:
    """Writes {stem}_repairs.csv, a row per blob. leave: whether red ones were left unrepaired."""

    def mask(box):
        return arrays["hidden"].read(box) != 0

    changed = np.zeros(blobs.found.count + 1, np.int64)
    for box, pieces, number in pieces_of(blobs.found, mask, f"{output.stem}: table of repairs"):
        other = arrays["was"].read(box) > 0
        np.add.at(changed, number, np.bincount(pieces.ravel(), other.ravel(), len(number)).astype(np.int64))
    with written(output, output.repairs) as path:
        write_lines(path, _rows(blobs, changed, leave))


def _rows(blobs: Blobs, changed, leave) -> Iterator[str]:
    yield ",".join(COLUMNS) + "\n"
    for i in range(1, blobs.found.count + 1):
        foreign = blobs.measures["foreignness"][i]
        cells = [i, RATINGS[blobs.rating[i] - 1], blobs.sums["voxels"][i], changed[i]]
        cells += [f"{blobs.measures['confidence'][i]:.4g}", f"{blobs.radius_tokens[i]:.4g}"]
        cells += ["" if blobs.radius_nm is None else f"{blobs.radius_nm[i]:.4g}"]
        cells += [f"{blobs.measures['context'][i]:.4g}", "" if np.isnan(foreign) else f"{foreign:.4g}"]
        cells += [int(leave and blobs.rating[i] == RED), *blobs.low[i], *blobs.high[i]]
        yield ",".join(map(str, cells)) + "\n"
