"""The imaging model, the low-signal regions, the distractors and the annotator."""

import numpy as np
import pytest
from scipy import ndimage

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.cytoplasm import CytoplasmSettings, distractors
from maeref_jax.phantoms.imaging import ImagingSettings, annotate, render
from maeref_jax.phantoms.low_signal import LowSignalSettings, lower_signal
from maeref_jax.phantoms.phantom import VOXEL_SIZE_NM, phantom

CLEAR = ImagingSettings(low_signal=LowSignalSettings(on_mitochondria=0.0, in_cytoplasm=0.0))


@pytest.fixture(scope="module")
def made():
    return phantom(7, (24, 128, 128))


@pytest.fixture(scope="module")
def labels(made):
    return made.labels


def test_the_stain_shows_bright_matrix_darker_cristae_and_a_dark_halo(labels):
    image, low_signal = render(labels, 0, VOXEL_SIZE_NM, CLEAR)
    background, halo, cristae, matrix = (image[labels == label].mean() for label in range(4))
    assert not low_signal.any()
    assert halo < background < matrix
    assert halo + 20 < cristae < matrix - 15
    # Hard: single voxels of cristae and matrix overlap widely.
    assert matrix - cristae < 2.5 * image[labels == 3].std()


def test_render_takes_any_label_volume_and_depends_on_its_seed_only(labels):
    block = np.zeros((5, 40, 40), np.uint8)
    block[:, 10:30, 10:30] = 3
    first, second, other = (render(block, seed, (5.0, 5.0, 5.0))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, second) and not np.array_equal(first, other)
    assert first.dtype == np.float32 and first.shape == block.shape
    for everywhere in (np.zeros((3, 20, 20), int), np.full((3, 20, 20), 3)):
        assert np.isfinite(render(everywhere, 0, VOXEL_SIZE_NM)[0]).all()


def boxes():
    """A box in a box in a box, classes 1, 3 and 2, as a cut through a mitochondrion."""
    block = np.zeros((6, 40, 40), np.uint8)
    block[:, 8:32, 8:32], block[:, 11:29, 11:29], block[:, 18:21, 12:28] = 1, 3, 2
    return block


def test_mitochondria_look_as_they_always_did():
    block = boxes()
    image, _ = render(block, 1, (10.0, 5.0, 5.0))
    means = [image[block == label].mean() for label in range(4)]
    np.testing.assert_allclose(means, [106.1872, 105.2990, 147.1400, 160.1360], atol=2e-3)
    np.testing.assert_allclose(image[3, 20, ::10], [131.21289, 117.87038, 150.0136, 105.6326], atol=2e-3)


def test_any_classes_are_rendered_by_how_each_one_looks():
    block = np.zeros((12, 40, 48), np.int16)
    block[:, 4:36, 4:22], block[:, 4:36, 26:44] = 1, 5
    empty = CytoplasmSettings(reticulum_share=0.0, vesicles_per_um3=0.0, organelles_per_um3=0.0)
    quiet = {"stain_spread": 0.0, "staining_field": 0.0, "blur_nm": (0.1,) * 3, "photons": 1e6, "read_noise": 0.0}
    looks = CLEAR._replace(
        stain=(100.0, 150.0, 0.0, 0.0, 0.0, 80.0), texture=(0.0, 0.0, 0.0, 0.0, 0.0, 9.0), cytoplasm=empty, **quiet
    )
    image, _ = render(block, 0, (16.0, 16.0, 16.0), looks)
    assert image[block == 0].mean() == pytest.approx(100, abs=0.1) and image[block == 0].std() < 0.2
    assert image[block == 1].mean() == pytest.approx(150, abs=0.1) and image[block == 1].std() < 0.2
    assert 5 < image[block == 5].std() < 12
    lined, _ = render(block, 0, (16.0, 16.0, 16.0), looks._replace(membrane=(0.0, 40.0, 0.0, 0.0, 0.0, 60.0)))
    inner = np.zeros_like(block)
    inner[:, 5:35, 5:21], inner[:, 5:35, 27:43] = 1, 5
    assert np.allclose(lined[(block == 1) & (inner == 0)], 40, atol=0.5), "one voxel deep, and none at the cut ends"
    assert np.allclose(lined[(block == 5) & (inner == 0)], 60, atol=0.5)
    np.testing.assert_allclose(lined[inner > 0], image[inner > 0], atol=0.5)
    np.testing.assert_allclose(lined[block == 0], image[block == 0], atol=0.5)
    thick, _ = render(
        block, 0, (16.0,) * 3, looks._replace(membrane=(0.0, 40.0, 0.0, 0.0, 0.0, 60.0), membrane_nm=20.0)
    )
    assert np.allclose(thick[:, 5, 6:20], 40, atol=0.5) and np.allclose(thick[:, 7:33, 7:19], 150, atol=0.5)
    with pytest.raises(BadInput, match="texture has 4 values, stain 6"):
        render(block, 0, (16.0,) * 3, ImagingSettings(stain=(1.0,) * 6))
    with pytest.raises(BadInput, match="membrane has 2 values"):
        render(boxes(), 0, (16.0,) * 3, ImagingSettings(membrane=(1.0, 2.0)))


def test_who_cannot_decide_may_leave_it_unknown(made):
    drawn = annotate(made.labels, made.low_signal, 1)
    unknown = annotate(made.labels, made.low_signal, 1, undecided=-1)
    np.testing.assert_array_equal(unknown, np.where(drawn == 4, -1, drawn))
    assert (unknown == -1).any()


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), int),
        np.zeros((0, 4, 4), int),
        np.zeros((2, 4, 4)),
        np.full((2, 4, 4), 4),
        np.full((2, 4, 4), -1),
    ],
)
def test_render_refuses_what_is_no_label_volume(bad):
    with pytest.raises(BadInput, match="render needs"):
        render(bad, 0, VOXEL_SIZE_NM)


def test_low_signal_lies_on_mitochondria_and_in_empty_cytoplasm(labels):
    settings = LowSignalSettings()
    image = np.full(labels.shape, 100, np.float32)
    everywhere = np.zeros(labels.shape, bool)
    for seed in range(6):
        everywhere |= lower_signal(image, labels, np.random.default_rng(seed), settings)[1]
    near = ndimage.distance_transform_edt(labels == 0) < 4
    assert np.count_nonzero(everywhere & (labels > 0)) > 1000
    assert np.count_nonzero(everywhere & ~near) > 1000


@pytest.mark.parametrize("profile, power", [("linear", 1.0), ("sqrt", 0.5)])
def test_signal_is_interpolated_towards_background_weighted_by_the_distance_map(profile, power):
    labels = np.ones((21, 61, 61), np.int16)
    labels[:, :, :20] = 0
    image = np.where(labels > 0, 200, 40).astype(np.float32)
    settings = LowSignalSettings(
        (16.0, 16.0), 0.8, (profile,), (0.0,), on_mitochondria=1.000001e6 / np.count_nonzero(labels), in_cytoplasm=0.0
    )
    changed, region = lower_signal(image, labels, np.random.default_rng(3), settings)
    lost = (image - changed) / 160
    centre = np.unravel_index(np.argmax(lost), lost.shape)
    assert lost[centre] == pytest.approx(0.8, abs=1e-5)
    assert labels[centre] == 1
    halfway = (centre[0], centre[1], centre[2] + 8)
    assert lost[halfway] == pytest.approx(0.8 * 0.5**power, abs=1e-5)
    up = centre[0] + (4 if centre[0] < 10 else -4)  # z radius is half of the radius in the plane
    assert lost[up, centre[1], centre[2]] == pytest.approx(0.8 * 0.5**power, abs=1e-5)
    assert np.array_equal(region[labels > 0], lost[labels > 0] > settings.counts_from)
    assert image.max() == 200  # the input is left alone


def test_low_signal_makes_cristae_harder_to_tell_from_matrix(labels):
    """Separation of the classes at the middle of the regions, in standard deviations, against elsewhere."""
    strong = LowSignalSettings(radius_vx=(16.0, 18.0), profiles=("sqrt",), on_mitochondria=150.0, in_cytoplasm=0.0)
    image, low_signal = render(labels, 1, VOXEL_SIZE_NM, ImagingSettings(low_signal=strong))

    def separation(where):
        cristae, matrix = image[where & (labels == 2)], image[where & (labels == 3)]
        return (matrix.mean() - cristae.mean()) / np.sqrt(0.5 * (matrix.var() + cristae.var()))

    assert separation(low_signal) < 0.7 * separation(~low_signal)


def test_distractors_stay_off_mitochondria_and_all_kinds_occur(labels):
    kinds = distractors(labels, np.random.default_rng(0), VOXEL_SIZE_NM, CytoplasmSettings())
    assert not kinds[labels > 0].any()
    assert set(np.unique(kinds)) == {0, 1, 2, 3, 4, 5}


def test_annotate_marks_only_low_signal_on_or_at_mitochondria(made):
    drawn = annotate(made.labels, made.low_signal, 0, share=1.0)
    marked = drawn == 4
    assert drawn.dtype == np.int16
    assert marked.any() and not (marked & ~made.low_signal).any()
    assert np.array_equal(drawn[~marked], made.labels[~marked])
    assert marked[made.low_signal & (made.labels > 0)].all()
    regions, _ = ndimage.label(made.low_signal)
    empty = np.setdiff1d(regions, regions[made.labels > 0])
    assert len(empty) > 0
    assert not marked[np.isin(regions, empty)].any()


def test_annotate_decides_per_region_and_follows_its_share(made):
    regions, _ = ndimage.label(made.low_signal)
    on = made.labels > 0
    numbers = np.unique(regions[on & made.low_signal])
    counts = []
    for seed in range(20):
        drawn = annotate(made.labels, made.low_signal, seed, share=0.5)
        whole = [np.unique((drawn == 4)[on & (regions == number)]) for number in numbers]
        assert all(len(values) == 1 for values in whole)
        counts.append(sum(bool(values[0]) for values in whole))
    assert np.mean(counts) == pytest.approx(0.5 * len(numbers), abs=0.5)
    assert np.array_equal(annotate(made.labels, made.low_signal, 1, share=0.0), made.labels)


def test_annotate_refuses_mismatched_shapes_and_shares(made):
    with pytest.raises(BadInput, match="same shape"):
        annotate(made.labels, made.low_signal[1:], 0)
    with pytest.raises(BadInput, match="share"):
        annotate(made.labels, made.low_signal, 0, share=1.5)
