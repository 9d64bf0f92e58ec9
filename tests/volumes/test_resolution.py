"""Another grid by a plain loop over voxels, whatever the ratio, the boxes and the format."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.formats.stored import Placement
from maeref_jax.volumes.pyramid import downsample, write_pyramid
from maeref_jax.volumes.resolution import HOWS, at_voxel_size, coarser_shape, onto
from maeref_jax.volumes.view import array_volume
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import Box, blocks, whole

ratios = st.tuples(st.integers(1, 7), st.integers(1, 4)).map(lambda pair: Fraction(*pair))


def at(volume, wanted, how):
    """As `at_voxel_size`, also where little is left."""
    return onto(volume, coarser_shape(volume.shape, volume.voxel_size_nm, wanted), wanted, how)


def read(volume):
    return volume.read(whole(volume.shape))


@st.composite
def grids(draw, ratio=ratios, dtype=None):
    """(array, its voxel size, the wanted one): coarser along some axes, finer along others."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * 3))
    classes = draw(st.sampled_from([(), (2,)]))
    dtype = np.dtype(dtype or draw(st.sampled_from(["uint8", "int16", "float32"])))
    seed = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    array = seed.integers(-3 if dtype.kind != "u" else 0, 4, (*classes, *shape)).astype(dtype)
    size = tuple(draw(st.sampled_from([1.0, 5.0, 4.6])) for _ in range(3))
    return array, size, tuple(float(length * draw(ratio)) for length in size)


def shares(size, ratio, target):
    """{source voxel: share of it that a target voxel covers} along one axis."""
    covered = {i: min(Fraction(i + 1), (target + 1) * ratio) - max(Fraction(i), target * ratio) for i in range(size)}
    return {i: share for i, share in covered.items() if share > 0} or {size - 1: Fraction(1)}


def between(size, ratio, target):
    """The same of linear interpolation between centres."""
    place = (Fraction(2 * target + 1) * ratio - 1) / 2
    low = math.floor(place)
    found = {}
    for i, share in ((low, 1 - (place - low)), (low + 1, place - low)):
        i = min(max(i, 0), size - 1)
        found[i] = found.get(i, 0) + share
    return found


def nearest(size, ratio, target):
    return {min(math.floor((target + Fraction(1, 2)) * ratio), size - 1): Fraction(1)}


def by_hand(array, size, wanted, how):
    """`onto` of (z, y, x), voxel by voxel."""
    ratio = [Fraction(w / s).limit_denominator(100) for s, w in zip(size, wanted, strict=True)]
    shape = tuple(max(1, math.ceil(n / r)) for n, r in zip(array.shape, ratio, strict=True))
    result = np.empty(shape, array.dtype)
    for voxel in np.ndindex(shape):
        parts = []
        for n, r, at in zip(array.shape, ratio, voxel, strict=True):
            finer = between if how == "mean" else nearest
            parts.append((nearest if how == "nearest" else shares if r >= 1 else finer)(n, r, at))
        votes = {}
        for members in itertools.product(*(part.items() for part in parts)):
            value = array[tuple(at for at, _ in members)].item()
            votes[value] = votes.get(value, 0) + math.prod(share for _, share in members)
        if how == "mean":
            mean = sum(Fraction(value) * share for value, share in votes.items()) / sum(votes.values())
            result[voxel] = float(mean) if array.dtype.kind == "f" else round(mean)
        elif how == "largest":
            result[voxel] = max(votes)
        else:
            result[voxel] = min(votes, key=lambda value: (-votes[value], value))
    return result


@settings(max_examples=60)
@given(grids(), st.sampled_from(HOWS))
def test_every_voxel_is_what_a_plain_loop_finds(grid, how):
    array, size, wanted = grid
    found = read(at(array_volume(array, "a", size), wanted, how))
    assert found.dtype == array.dtype
    for one, other in zip(found if array.ndim == 4 else [found], array if array.ndim == 4 else [array], strict=True):
        expected = by_hand(other, size, wanted, how)
        if how == "mean":
            np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(one, expected)


@pytest.mark.parametrize("how", HOWS)
def test_a_voxel_left_out_and_one_said_twice_are_not_every_voxel(how):
    """As many as there were: 0, 2 and, beyond the last one, 2 again."""
    array, wanted = np.array([[[1, 2, 3]]], np.uint8), (1.0, 1.0, 4 / 3)
    found = read(at(array_volume(array, "a", (1.0, 1.0, 1.0)), wanted, how))
    np.testing.assert_array_equal(found, by_hand(array, (1.0, 1.0, 1.0), wanted, how))


@settings(max_examples=60)
@given(grids(), st.sampled_from(HOWS), st.tuples(*[st.integers(1, 6)] * 3))
def test_boxes_change_no_bit(grid, how, block):
    array, size, wanted = grid
    volume = at(array_volume(array * np.float32(-0.1) if array.dtype.kind == "f" else array, "a", size), wanted, how)
    expected = read(volume)
    found = np.full_like(expected, 77)
    for box in blocks(volume.shape, block):
        found[(..., *box.slices)] = volume.read(box)
    assert found.tobytes() == expected.tobytes()


def test_a_box_that_ends_with_the_volume_changes_no_sign():
    volume = at(array_volume(np.array([[[1, 1, -0.0]]], np.float32), "a", (1, 1, 1)), (1, 1, 2), "mean")
    assert read(volume)[..., 1:].tobytes() == volume.read(Box((0, 0, 1), (1, 1, 2))).tobytes()


def test_what_is_read_at_once_changes_no_bit_and_is_bounded(monkeypatch):
    array = np.random.default_rng(0).normal(size=(20, 33, 29)).astype(np.float32)
    plain = array_volume(array, "a", (4.0, 3.0, 3.0))
    expected = [read(at(plain, (10.0, 7.0, 2.0), how)) for how in HOWS]
    asked = []
    watched = array_volume(array, "a", (4.0, 3.0, 3.0))
    object.__setattr__(watched, "_read", lambda box: asked.append(box) or array[box.slices])
    monkeypatch.setattr("maeref_jax.volumes.resolution._AT_ONCE", 600)
    for how, before in zip(HOWS, expected, strict=True):
        assert read(at(watched, (10.0, 7.0, 2.0), how)).tobytes() == before.tobytes()
    assert max(math.prod(box.shape) for box in asked) <= 600
    asked.clear()
    at(watched, (8.0, 6.0, 6.0), "mean").read(Box((1, 2, 3), (2, 4, 5)))
    assert asked == [Box((2, 4, 6), (4, 8, 10))], "only what the box covers"


@given(grids(ratio=st.integers(1, 4)))
def test_integer_ratios_equal_the_pyramid_where_they_divide(grid):
    array, size, wanted = grid
    step = tuple(round(w / s) for w, s in zip(wanted, size, strict=True))
    array = array[(..., *(slice(n - n % s) for n, s in zip(array.shape[-3:], step, strict=True)))]
    if array.size == 0:
        return
    volume = array_volume(array, "a", size)
    np.testing.assert_array_equal(read(at(volume, wanted, "mean")), downsample(array, step, "mean"))
    votes = np.stack([array == value for value in np.unique(array)]).astype(np.float64)
    votes = np.sort(np.stack([downsample(v, step, "mean") for v in votes]), axis=0)
    sole = votes[-1] > votes[-2] if len(votes) > 1 else np.ones(votes.shape[1:], bool)
    found = read(at(volume, wanted, "mode"))
    np.testing.assert_array_equal(found[sole], downsample(array, step, "mode")[sole], "but for ties")


@given(grids(ratio=st.integers(1, 4)))
def test_to_the_finer_grid_and_back_is_exact(grid):
    array, size, wanted = grid
    step = tuple(round(w / s) for w, s in zip(wanted, size, strict=True))
    coarse = array_volume(array, "a", wanted)
    shape = tuple(n * s for n, s in zip(array.shape[-3:], step, strict=True))
    fine = onto(coarse, shape, size, "nearest")
    np.testing.assert_array_equal(read(fine), array.repeat(step[0], -3).repeat(step[1], -2).repeat(step[2], -1))
    for how in ("mode", "mean", "largest"):
        np.testing.assert_array_equal(read(onto(fine, coarse.shape, wanted, how)), array)


def test_a_gradient_comes_back_linearly_and_a_mean_stays():
    ramp = np.broadcast_to(np.arange(0.5, 8, dtype=np.float32), (2, 3, 8))
    fine = read(onto(array_volume(ramp, "a", (10, 10, 10)), (2, 3, 32), (10, 10, 2.5), "mean"))
    np.testing.assert_allclose(fine[0, 0, 2:-2], np.arange(32)[2:-2] / 4 + 0.125)
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), (4, 5, 6)).transpose(3, 0, 1, 2).astype(np.float32)
    volume = array_volume(probabilities, "p", (30, 5, 5))
    for wanted in ((12, 7, 7), (70, 2, 11)):
        np.testing.assert_allclose(read(at_voxel_size(volume, wanted, "mean")).sum(0), 1, rtol=1e-6)


def test_grids_share_their_corner():
    """A ball's middle lies at the same place in nm, whatever the voxel size."""
    at = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in (40, 60, 60)), indexing="ij"), -1) * (10, 5, 5)
    ball = (np.linalg.norm(at - (170, 130, 160), axis=-1) < 90).astype(np.uint8) * 200
    volume = array_volume(ball, "a", (10, 5, 5))
    for wanted in ((20, 20, 20), (13, 17, 11), (5, 5, 5)):
        coarse = read(at_voxel_size(volume, wanted, "mean")).astype(float)
        middle = [
            (coarse.sum((*{0, 1, 2} - {axis},)) * (np.arange(coarse.shape[axis]) + 0.5)).sum() for axis in range(3)
        ]
        np.testing.assert_allclose(np.array(middle) / coarse.sum() * wanted, (170, 130, 160), atol=0.5)


def test_shapes_cover_the_volume_and_keep_thin_axes():
    assert coarser_shape((10, 100, 101), (5, 5, 5), (80, 10, 10)) == (1, 50, 51)
    assert coarser_shape((10, 100, 100), (30, 4.6, 4.6), (30, 9.2, 9.2)) == (10, 50, 50)
    assert coarser_shape((10, 100, 100), (30, 9.2, 9.2), (30, 4.6, 4.6)) == (10, 200, 200)
    assert coarser_shape((3,) * 3, (4.5999999,) * 3, (9.2,) * 3) == (2, 2, 2), "sizes are rarely known to eight digits"
    volume = array_volume(np.zeros((4, 5, 6), np.uint8), "a", (5, 5, 5))
    assert at_voxel_size(volume, (5, 5, 5.0000001), "mean") is volume


@pytest.fixture
def image(tmp_path):
    """An OME-Zarr image (12, 100, 91) of voxels 20 x 5 x 5 nm with levels of 20 x 10 x 10 and 20 x 20 x 20 nm."""
    array = np.random.default_rng(0).integers(0, 255, (12, 100, 91)).astype(np.uint8)
    path = tmp_path / "image.ome.zarr"
    made = create_ome_zarr(path, array.shape, "uint8", voxel_size_nm=(20.0, 5.0, 5.0))
    made.write(whole(array.shape).slices, array)
    write_pyramid(path, "mean", smallest=30)
    return path, array


def test_a_level_opened_by_its_path_has_its_own_voxel_size(image):
    path, _ = image
    for level, size in (("0", (20, 5, 5)), ("1", (20, 10, 10)), ("2", (20, 20, 20))):
        volume = open_volume(path / level)
        assert volume.voxel_size_nm == pytest.approx(size)
        assert volume.shape == coarser_shape((12, 100, 91), (20, 5, 5), size)


def test_a_coarser_level_is_read_where_it_is_fine_enough(image):
    path, array = image
    volume = open_volume(path)
    half = at_voxel_size(volume, (20, 10, 10), "mean")
    assert "level 1 of 20 x 10 x 10 nm" in half.note and half.path == volume.path
    np.testing.assert_array_equal(read(half), read(open_volume(path / "1")))
    fourth = at_voxel_size(volume, (40, 20, 20), "mean")
    assert "level 2" in fourth.note and fourth.shape == (6, 25, 23)
    # As near as levels of whole numbers can be to the mean of all; odd ends of a level repeat the last voxel.
    plain = read(at_voxel_size(array_volume(array, "a", volume.voxel_size_nm), (40, 20, 20), "mean"))
    assert np.abs(read(fourth)[..., :-1].astype(int) - plain[..., :-1]).max() <= 1
    assert "level 1" in at_voxel_size(volume, (50, 25, 25), "mean").note
    assert not at_voxel_size(volume, (40, 15, 15), "mean").note, "of level 1 every other voxel would be split"
    assert "level 2" in at_voxel_size(volume, (80, 80, 80), "mean").note
    assert not at_voxel_size(volume, (20, 9, 9), "mean").note, "level 1 is too coarse"
    assert not at_voxel_size(volume, (20, 20, 20), "mode").note, "a vote of votes is another vote"
    assert not at_voxel_size(open_volume(f"{path}[0:6]"), (20, 20, 20), "mean").note


def test_levels_follow_a_voxel_size_that_is_given_and_identities_tell_sizes_apart(image):
    path, _ = image
    given = open_volume(path, voxel_size_nm=(40.0, 10.0, 10.0))
    assert "level 1 of 40 x 20 x 20 nm" in at_voxel_size(given, (40, 20, 20), "mean").note
    volume = open_volume(path)
    sizes = [(20, 10, 10), (20, 20, 20), (20, 7, 7)]
    identities = [at_voxel_size(volume, size, how).identity() for size in sizes for how in ("mean", "mode")]
    assert all(a != b for a, b in itertools.combinations([volume.identity(), *identities], 2))
    assert len({identity["path"] for identity in identities}) == 1


def test_levels_that_are_no_means_are_not_read(tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (4, 64, 64)).astype(np.uint8)
    for method in ("nearest", "mode"):
        path = tmp_path / f"{method}.ome.zarr"
        made = create_ome_zarr(path, array.shape, "uint8", voxel_size_nm=(20.0, 5.0, 5.0))
        made.write(whole(array.shape).slices, array)
        write_pyramid(path, method, smallest=16)
        coarse = at_voxel_size(open_volume(path), (20, 10, 10), "mean")
        assert not coarse.note
        np.testing.assert_array_equal(read(coarse), downsample(array, (1, 2, 2), "mean"))


def test_a_level_that_is_missing_is_said(image):
    path, _ = image
    (path / "2" / "zarr.json").unlink()
    with pytest.raises(BadInput, match=r"image.ome.zarr.2.*to do without coarser levels, give .*image.ome.zarr.0"):
        at_voxel_size(open_volume(path), (20, 20, 20), "mean")


def test_where_it_lies_in_the_world_stays():
    placed = Placement({"X": (4.0, 0, 0), "Y": (0, 0, 3.0), "Z": (0, 20.0, 0)}, (100.0, 200.0, 300.0), "nm")
    volume = array_volume(np.zeros((4, 8, 8), np.uint8), "a", (20.0, 3.0, 4.0))
    object.__setattr__(volume, "placement", placed)
    found = at_voxel_size(volume, (20, 9, 8), "mean").placement
    assert found.columns == {"X": (8.0, 0, 0), "Y": (0, 0, 9.0), "Z": (0, 20.0, 0)}
    assert found.origin == (102.0, 200.0, 303.0) and found.unit == "nm"


def test_what_cannot_be_read_at_another_size_is_said():
    array = np.zeros((4, 50, 60), np.uint8)
    with pytest.raises(BadInput, match=r"a cannot be read at another voxel size.*--voxel_size_nm Z,Y,X"):
        at_voxel_size(array_volume(array, "a"), (10, 10, 10), "mean")
    volume = array_volume(array, "a", (5.0, 5.0, 5.0))
    with pytest.raises(BadInput, match=r"covers 20 x 250 x 300 nm, but .2, 25, 20. voxels of 10 x 10 x 10 nm cover"):
        onto(volume, (2, 25, 20), (10, 10, 10), "mean")
    with pytest.raises(BadInput, match="16,777,216 voxels of a, which are of 5 x 5 x 5 nm; ask for smaller"):
        onto(volume, (1, 1, 1), (8000, 8000, 8000), "mean")
    with pytest.raises(BadInput, match=r"of a, of 5 x 5 x 5 nm .z y x., would be cut into over 32,768 of 1e-05 x"):
        at_voxel_size(volume, (1e-5, 5, 10), "mode")
    with pytest.raises(BadInput, match=r"would have shape .1, 1, 2. at 200 x 250 x 200 nm: nothing is left"):
        at_voxel_size(volume, (200, 250, 200), "mean")
    assert (
        at_voxel_size(volume, (40, 40, 40), "mode").note == "at 40 x 40 x 40 nm its 4 slices are one, of 20 nm together"
    )
    assert (
        "its 1 slice is one, of 5 nm"
        in at_voxel_size(array_volume(array[:1], "a", (5.0, 5.0, 5.0)), (40,) * 3, "mean").note
    )
    assert at_voxel_size(volume, (20, 20, 20), "mean").note == ""
