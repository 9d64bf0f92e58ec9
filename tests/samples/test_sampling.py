import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.samples import sampling, training_volumes


def volume_of(image, labels):
    return training_volumes.TrainingVolume("made", image, labels)


@pytest.fixture(scope="module")
def volumes():
    rng = np.random.default_rng(0)
    return [
        volume_of(
            rng.normal(100, 20, (3, 40, 50)).astype(np.float32),
            rng.integers(0, 4, (3, 40, 50)).astype(np.int16),
        )
        for _ in range(3)
    ]


def test_a_batch_is_a_function_of_seed_and_step(volumes):
    def draw(seed, step):
        return sampling.label_batch(volumes, seed, step, range(6), (16, 16), 4, 0.1, (0.1, 0.9))

    np.testing.assert_array_equal(draw(0, 3)["labels"], draw(0, 3)["labels"])
    assert (draw(0, 3)["labels"] != draw(0, 4)["labels"]).any()
    assert (draw(0, 3)["labels"] != draw(1, 3)["labels"]).any()


def test_a_sample_does_not_depend_on_the_size_of_its_batch(volumes):
    small, large = (sampling.label_batch(volumes, 0, 5, range(b), (16, 16), 4, 0.1, (0.1, 0.9)) for b in (2, 6))
    np.testing.assert_array_equal(small["labels"], large["labels"][:2])


def test_members_draw_from_their_own_volumes(volumes):
    constant = [volume._replace(labels=np.full_like(volume.labels, i)) for i, volume in enumerate(volumes)]
    batch = sampling.image_batch([[v] for v in constant], 0, 0, range(4), (16, 16), 0.0, np.array([0, 1]))
    assert batch["image"].shape == (4, 3, 16, 16)
    np.testing.assert_array_equal(batch["shared"]["members"], [0, 1, 2])
    for member in range(3):
        assert (batch["labels"][:, member] == member).all()


def test_a_crop_larger_than_its_volume_is_unknown_outside(volumes):
    rng = np.random.default_rng(0)
    found = sampling.crop(volumes[0], rng, (64, 64), 0.0)
    assert (found["labels"] == -1).sum() == 64 * 64 - 40 * 50 and found["image"].shape == (64, 64)
    undecided = volumes[0]._replace(entropy=np.ones_like(volumes[0].image))
    found = sampling.crop(undecided, rng, (64, 64), 0.0)
    np.testing.assert_array_equal(found["entropy"] == 0, found["labels"] == -1)


@given(tokens=st.integers(16, 2000), ratio=st.floats(0, 1))
def test_the_static_length_holds_every_visible_token(tokens, ratio):
    hidden, length = sampling.masking_length(ratio, tokens)
    assert hidden == round(ratio * tokens) and tokens - hidden <= length <= tokens


def test_the_masking_ratio_is_uniform_has_few_lengths_and_says_nothing_about_the_samples():
    labels = np.zeros((100, 16, 16), np.int16) + np.arange(100, dtype=np.int16)[:, None, None]
    volumes = [volume_of(None, labels)] * 2
    batches = [sampling.label_batch(volumes, 0, step, range(2), (16, 16), 1, -1.0, (0.1, 0.9)) for step in range(2000)]
    hidden = np.array([batch["shared"]["hidden_count"] for batch in batches]) / 256
    assert np.abs(np.sort(hidden) - np.linspace(0.1, 0.9, 2000)).max() < 0.04
    assert len({len(batch["shared"]["slots"]) for batch in batches}) <= len(sampling.LENGTH_SHARES)
    for sample in range(2):
        slices = [batch["labels"][sample, 0, 0] for batch in batches]
        assert abs(np.corrcoef(hidden, slices)[0, 1]) < 0.08, "the slice of a sample tells the masking ratio"


def test_the_eight_orientations_differ_and_keep_every_pixel():
    plane = np.arange(9).reshape(3, 3)
    found = {sampling.oriented(plane, i).tobytes() for i in range(8)}
    assert len(found) == 8
    assert all((np.sort(sampling.oriented(plane, i), axis=None) == np.arange(9)).all() for i in range(8))


def test_crops_for_an_ensemble_are_as_they_lie_in_the_volume_planes_and_boxes_alike(volumes):
    places = np.arange(3 * 40 * 50, dtype=np.float32).reshape(3, 40, 50)
    volume = volume_of(places, places.astype(np.int64))
    for size in ((16, 12), (2, 16, 12)):
        batch = sampling.image_batch([[volume]], 0, 0, range(8), size, 0.0, np.array([0, 1]))
        assert batch["image"].shape == batch["labels"].shape == (8, 1, *size)
        for crop in batch["image"][:, 0]:
            first = np.unravel_index(int(crop.flat[0]), places.shape)
            box = (1,) * (3 - len(size)) + size
            window = tuple(slice(start, start + n) for start, n in zip(first, box, strict=True))
            np.testing.assert_array_equal(crop, places[window].reshape(size))


def test_a_box_larger_than_its_volume_is_mirrored_and_unknown_outside(volumes):
    found = sampling.crop(volumes[0], np.random.default_rng(0), (8, 16, 16), 0.0)
    assert (found["labels"][3:] == -1).all() and (found["labels"][:3] >= 0).all()
    np.testing.assert_array_equal(found["image"][3:6], found["image"][2::-1])


def test_donors_are_other_crops_and_leave_the_rest_of_a_batch_as_it_was(volumes):
    fixed = (volumes, 0, 5, range(6), (16, 16), 4, 0.1, (0.1, 0.9))
    plain, with_donors = sampling.label_batch(*fixed), sampling.label_batch(*fixed, donors=True)
    assert "donor" not in plain and with_donors["donor"].shape == (6, 16, 16)
    for name in ("labels", "entropy", "index"):
        np.testing.assert_array_equal(plain[name], with_donors[name])
    few = sampling.label_batch(volumes, 0, 5, range(2, 4), *fixed[4:], donors=True)
    np.testing.assert_array_equal(few["donor"], with_donors["donor"][2:4])


def test_a_batch_has_images_and_masks_only_where_they_are_asked_for(volumes):
    fixed, known = (volumes, 0, 5, range(4), (16, 16), 4, 0.1), np.array([60, 140], np.float32)
    plain, bare = sampling.label_batch(*fixed, (0.1, 0.9)), sampling.label_batch(*fixed)
    shown = sampling.label_batch(*fixed, intensities=known)
    assert bare["shared"] == {} and "image" not in plain
    assert set(shown["shared"]) == {"intensity_range"} and shown["image"].dtype == np.float32
    for other in (bare, shown):
        np.testing.assert_array_equal(plain["labels"], other["labels"])


def test_the_image_is_turned_as_its_labels_are():
    places = np.arange(40 * 50).reshape(1, 40, 50)
    batch = sampling.label_batch(
        [volume_of(places, places.astype(np.int16))], 0, 0, range(8), (16, 16), 4, 0.0, intensities=np.zeros(2)
    )
    np.testing.assert_array_equal(batch["image"], batch["labels"])


def squares(shape=(4, 200, 200), side=8):
    """Labels of which a square in the near corner is foreground, and nothing else."""
    labels = np.zeros(shape, np.int16)
    labels[:, :side, :side] = 1
    return volume_of(np.zeros(shape, np.float32), labels)


def drawn(volume, share, least=0.05, number=400, size=(32, 32)):
    return [sampling.crop(volume, np.random.default_rng(i), size, least, share)["labels"] for i in range(number)]


def test_the_stated_share_of_crops_is_drawn_anywhere_and_the_others_hold_foreground():
    volume = squares()
    for share in (0.0, 0.3, 1.0):
        empty = np.mean([(crop > 0).mean() <= 0.05 for crop in drawn(volume, share)])
        # A crop drawn anywhere hardly ever shows the square.
        assert abs(empty - share) < 0.06
    assert np.mean([(crop > 0).any() for crop in drawn(volume, 0.0, least=0.0)]) < 0.1, "0 asks for nothing"


def test_crops_drawn_anywhere_cover_a_mostly_empty_volume_and_those_with_foreground_alone_do_not():
    shape = (1, 200, 200)
    place = np.arange(200 * 200, dtype=np.float32).reshape(shape)
    volume = squares(shape)._replace(image=place)
    seen = {}
    for share in (0.0, 0.3):
        covered = np.zeros(shape, bool)
        for i in range(600):
            crop = sampling.crop(volume, np.random.default_rng(i), (32, 32), 0.05, share)
            covered.flat[crop["image"].astype(int).ravel()] = True
        seen[share] = covered.mean()
    assert seen[0.0] < 0.1 and seen[0.3] > 0.85


def test_foreground_of_a_thousandth_of_a_volume_is_found_by_every_crop_that_is_to_hold_some():
    labels = np.zeros((20, 300, 300), np.int16)
    labels[13, 100:130, 200:260] = 1  # a thousandth
    volume = volume_of(None, labels)
    with_foreground = [(crop > 0).any() for crop in drawn(volume, 0.0, number=60)]
    assert np.mean(with_foreground) == 1
    starts = {crop.tobytes() for crop in drawn(volume, 0.0, number=60)}
    assert len(starts) > 30, "it lies now here, now there in a crop"
    boxes = drawn(volume, 0.0, number=20, size=(4, 32, 32))
    assert all((box > 0).any() for box in boxes)


def test_a_crop_without_a_known_label_is_drawn_again():
    labels = np.full((10, 200, 200), -1, np.int16)
    labels[7, 150:160, 20:30] = 0
    volume = volume_of(None, labels)
    for share in (0.0, 1.0):
        assert all((crop >= 0).any() for crop in drawn(volume, share, number=40))
    nothing = volume_of(None, np.full((1, 40, 40), -1, np.int16))
    assert (drawn(nothing, 0.3, number=1)[0] == -1).all()


def test_a_volume_remembers_a_bounded_number_of_places_spread_over_all_there_are(monkeypatch):
    labels = np.random.default_rng(0).integers(-1, 2, (6, 50, 40)).astype(np.int16)
    volume = volume_of(None, labels)
    np.testing.assert_array_equal(volume.foreground, np.argwhere(labels > 0))
    np.testing.assert_array_equal(volume.known, np.argwhere(labels >= 0))
    monkeypatch.setattr(training_volumes, "MOST_PLACES", 500)
    few = volume_of(None, labels).foreground
    assert few.shape == (500, 3) and (labels[tuple(few.T)] > 0).all()
    assert np.abs(few.mean(0) - np.argwhere(labels > 0).mean(0)).max() < 2
    assert volume_of(None, labels * 0).foreground.shape == (0, 3)


@pytest.mark.parametrize("size", [(32, 32), (4, 32, 32)])
def test_every_crop_of_a_clicked_volume_holds_clicks_found_at_once(size, monkeypatch):
    """A hundred known voxels of four millions; of 16 blind draws none would meet one."""
    rng, labels = np.random.default_rng(0), np.full((16, 512, 512), -1, np.int16)
    labels[tuple(rng.integers(0, n, 100) for n in labels.shape)] = np.arange(100) % 4
    volume, looked = volume_of(None, labels), []
    assert volume.scattered and len(volume.known) == 100
    real = sampling.np.clip
    monkeypatch.setattr(sampling.np, "clip", lambda *given: looked.append(1) or real(*given))
    crops = drawn(volume, 0.3, number=300, size=size)
    assert len(looked) == 300, "the first draw will do"
    assert all((crop >= 0).any() for crop in crops)
    assert abs(np.mean([(crop > 0).any() for crop in crops]) - 0.75) < 0.08, "all clicks are as likely"
    seen = np.unique(np.concatenate([np.argwhere(crop >= 0)[:, -1] for crop in crops]))
    assert len(seen) == 32, "a click lies now here, now there in a crop"


def test_slices_that_were_labelled_as_a_whole_are_no_clicks():
    labels = np.full((40, 128, 128), -1, np.int16)
    labels[7] = 0
    assert not volume_of(None, labels).scattered
    labels[7, 40:] = labels[7, :, 30:] = -1
    assert not volume_of(None, labels).scattered, "a part of one"
    labels[7, 3:] = -1
    assert volume_of(None, labels).scattered, "a scribble"
    assert not volume_of(None, labels * 0 - 1).scattered
