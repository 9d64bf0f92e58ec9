"""The phantom's anatomy: what the learning task and the metrics rely on."""

import numpy as np
import pytest
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.metrics.validity import counts, crops, edge_count, metrics
from maeref_jax.phantoms.centrelines import Packing
from maeref_jax.phantoms.phantom import Phantom, PhantomSettings, phantom
from maeref_jax.phantoms.smooth_noise import smooth_noise

SHAPE = (16, 128, 128)


@pytest.fixture(scope="module")
def made() -> list[Phantom]:
    return [phantom(seed, SHAPE) for seed in (1, 2, 3)]


def test_the_fields_have_the_promised_shapes_types_and_ranges(made):
    for one in made:
        assert {field.shape for field in one[:4]} == {SHAPE}
        assert [field.dtype for field in one[:4]] == [np.float32, np.int16, bool, np.int32]
        assert one.image.min() >= 0 and one.image.max() <= 255
        assert set(np.unique(one.labels)) == {0, 1, 2, 3}
        assert np.array_equal(one.labels > 0, one.instances > 0)
        assert one.voxel_size_nm == (20.0, 10.0, 10.0)


def test_the_same_seed_gives_the_same_volume_and_another_seed_another(made):
    again = phantom(1, SHAPE)
    for first, second in zip(made[0], again, strict=True):
        assert np.array_equal(first, second)
    assert not np.array_equal(made[0].labels, made[1].labels)


def test_the_global_random_state_is_neither_used_nor_changed():
    np.random.seed(5)
    before = np.random.get_state()[1].copy()
    first = phantom(4, (8, 48, 48))
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(6)
    assert np.array_equal(first.image, phantom(4, (8, 48, 48)).image)


def test_the_shell_is_closed_in_3d(made):
    """Neither cristae nor matrix touch background or another mitochondrion's inside."""
    for one in made:
        inner = one.labels >= 2
        assert edge_count(inner, one.labels == 0) == 0
        for axis in range(3):
            here, ahead = np.moveaxis(one.instances, axis, 0)[:-1], np.moveaxis(one.instances, axis, 0)[1:]
            both = np.moveaxis(inner, axis, 0)[:-1] & np.moveaxis(inner, axis, 0)[1:]
            assert np.array_equal(here[both], ahead[both])


def test_the_shell_is_three_to_five_pixels_thick(made):
    """Measured in 3-D away from the volume's faces, which are no surface."""
    for one in made:
        depth = ndimage.distance_transform_edt(np.pad(one.labels > 0, 6, mode="edge"), sampling=one.voxel_size_nm)
        depth = depth[6:-6, 6:-6, 6:-6]
        inner = one.labels >= 2
        surface = inner & ~ndimage.binary_erosion(inner, border_value=1)
        assert 30 <= np.median(depth[surface]) <= 55


def test_cristae_are_mostly_surrounded_by_matrix_and_attached_in_3d():
    """Of the cristae that lie wholly inside the volume nearly all reach the inner membrane somewhere."""
    attached = whole = 0
    for seed in (1, 2, 3):
        labels = phantom(seed, (28, 128, 128)).labels
        cristae = labels == 2
        assert edge_count(cristae, labels == 3) > 5 * edge_count(cristae, labels == 1)
        objects, number = ndimage.label(cristae)
        cut = np.ones(labels.shape, bool)
        cut[1:-1, 1:-1, 1:-1] = False
        inside = np.setdiff1d(np.arange(1, number + 1), objects[cut])
        at_shell = objects[ndimage.binary_dilation(labels == 1)]
        whole += len(inside)
        attached += np.count_nonzero(np.isin(inside, at_shell))
    assert whole > 20
    assert attached > 0.8 * whole


def test_most_cristae_pieces_in_a_plane_do_not_touch_the_shell(made):
    touching, pieces = 0, 0
    for one in made:
        for plane in one.labels[::4]:
            objects, number = ndimage.label(plane == 2)
            beside = np.unique(objects[ndimage.binary_dilation(plane == 1) & (objects > 0)])
            touching, pieces = touching + len(beside), pieces + number
    assert 0.2 < touching / pieces < 0.8


def test_every_volume_however_small_holds_a_mitochondrion():
    for seed in range(8):
        labels = phantom(seed, (12, 64, 64)).labels
        assert np.mean(labels > 0) > 0.08


def test_validity_is_near_the_paper_s_control_group():
    """Loose bounds: the table of `evaluate.py --config configs/evaluate.py:phantom` shows the figures."""
    rows = []
    for seed in range(30, 35):
        labels = phantom(seed).labels
        rows += [list(metrics(counts(labels[crop])).values()) for crop in crops(labels, stride=32, slice_step=4)]
    end_points, cycles, boundary, cristae, background = np.nanmean(rows, axis=0)
    assert len(rows) > 40
    assert 2.5 < end_points < 6.0
    assert cycles < 0.8
    assert 0.08 < boundary < 0.14
    assert 0.07 < cristae < 0.13
    assert background == 0


def test_branches_and_touching_neighbours_occur():
    joined = 0
    for seed in range(3):
        instances = phantom(seed, settings=PhantomSettings(packing=Packing(touching=1.0, cover=0.8))).instances
        for axis in range(3):
            here, ahead = np.moveaxis(instances, axis, 0)[:-1], np.moveaxis(instances, axis, 0)[1:]
            joined += np.count_nonzero((here != ahead) & (here > 0) & (ahead > 0))
    assert joined > 50


def test_anatomy_follows_the_voxel_size():
    """Half the voxel size shows the same share of a mitochondrion's volume as shell."""
    coarse, fine = (
        phantom(2, shape, size).labels for shape, size in (((12, 80, 80), (20, 10, 10)), ((24, 160, 160), (10, 5, 5)))
    )
    shares = [np.mean(labels[labels > 0] == 1) for labels in (coarse, fine)]
    assert abs(shares[0] - shares[1]) < 0.06


@pytest.mark.parametrize(
    "shape, voxel_size_nm", [((8, 64), (20, 10, 10)), ((0, 64, 64), (20, 10, 10)), ((8, 64, 64), (20, 0, 10))]
)
def test_impossible_requests_are_refused_with_what_was_found(shape, voxel_size_nm):
    with pytest.raises(BadInput, match="got"):
        phantom(0, shape, voxel_size_nm)


@pytest.mark.parametrize("length_nm", [15.0, 60.0, 900.0])
def test_smooth_noise_has_unit_deviation_and_the_asked_length(length_nm):
    rng = np.random.default_rng(0)
    fields = np.stack([smooth_noise(rng, (12, 48, 48), (20.0, 10.0, 10.0), length_nm) for _ in range(60)])
    assert 0.75 < fields.std() < 1.15
    neighbours = np.mean(fields[..., 1:] * fields[..., :-1]) / np.mean(fields**2)
    # White noise smoothed with a Gaussian has the correlation exp(-d² / 4 length²).
    assert neighbours == pytest.approx(np.exp(-((10 / length_nm) ** 2) / 4), abs=0.08)
