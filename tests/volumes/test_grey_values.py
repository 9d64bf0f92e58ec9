"""volumes/grey_values.py: a bounded sample, the volume's own range, and doubt about images of another kind."""

import re

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.volumes import grey_values
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import blocks, whole

SIZE = (12.0, 6.0, 6.0)


@pytest.fixture(scope="module")
def images():
    return [phantom(seed, (12, 96, 96), SIZE).image.astype(np.float32) for seed in (0, 100)]


@pytest.fixture(scope="module")
def facts(images):
    known = grey_values.statistics(list(images[0]))
    return {"intensity_range": [known["quantiles"][0], known["quantiles"][-1]], "grey_values": known}


def doubt(image, facts):
    planes = grey_values.sample(array_volume(image, "stack"))
    return " ".join(grey_values.doubts_about_grey_values("stack", planes, "runs/e", facts))


def test_a_volume_like_those_of_training_gives_no_doubt(images, facts):
    assert [doubt(image, facts) for image in images] == ["", ""]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: x / 255, "0.* to 0.*another bit depth.*normalisation=volume"),
        (lambda x: x.astype(np.uint16) * 257, "another bit depth"),
        (lambda x: x.astype(np.int16) - 300, "100% of the voxels lie outside"),
        (lambda x: x + 80, "lie outside; rescale"),
        (lambda x: 110 + (x - 110) / 4, "has grey values from"),
        (lambda x: 110 + (x - 110) * 4, "lie outside"),
        (lambda x: 255 - x, "looks inverted.*invert the image"),
        (lambda x: x * 0 + 7, "the grey value 7 nearly everywhere"),
        (lambda x: np.zeros(x.shape, np.uint8), "right channel"),
    ],
)
def test_a_volume_of_another_kind_is_doubted_in_words_that_say_what_to_do(images, facts, change, said):
    assert re.search(said, doubt(change(images[1]), facts))


def test_an_older_workdir_knows_the_range_alone_and_an_imported_one_nothing(images, facts):
    older = {"intensity_range": facts["intensity_range"]}
    assert doubt(images[1], older) == "" and "inverted" not in doubt(255 - images[1], older)
    assert "lie outside" in doubt(images[1] / 255, older)
    assert doubt(images[1] / 255, {}) == ""


def test_the_sample_is_bounded_spread_over_the_volume_and_reads_no_more_than_it_needs():
    shape, read = (500, 3000, 4000), []

    def counted(box):
        read.append(box)
        z, y, x = (np.arange(a, b) for a, b in zip(box.start, box.stop, strict=True))
        return (z[:, None, None] / 500 + y[:, None] / 3000 + x / 4000).astype(np.float64)

    volume = Volume("large", shape, np.dtype(np.float64), None, None, None, counted)
    planes = grey_values.sample(volume)
    assert sum(plane.size for plane in planes) == sum(np.prod(box.shape) for box in read) <= grey_values.MOST
    places = np.array([box.start for box in read])
    assert (places.min(0) == 0).all() and (np.array([box.stop for box in read]).max(0) == shape).all()
    # The sum of three places between 0 and 1: median 1.5.
    assert abs(grey_values.statistics(planes)["quantiles"][3] - 1.5) < 0.1
    small = array_volume(np.arange(24).reshape(2, 3, 4), "small")
    np.testing.assert_array_equal(np.concatenate(grey_values.sample(small)).ravel(), np.arange(24))


def test_in_its_own_range_a_volume_looks_the_same_whatever_its_unit_and_however_it_is_read(images):
    seen = [grey_values.as_seen(array_volume(x, "stack"), "volume") for x in (images[0], images[0] * 257 - 4000)]
    one, other = (volume.read(whole(volume.shape)) for volume in seen)
    np.testing.assert_allclose(one, other, atol=1e-5)
    np.testing.assert_allclose(np.quantile(one, (0.01, 0.99)), (0, 1), atol=1e-4)
    assert one.dtype == seen[0].dtype == np.float32
    for box in blocks(one.shape, (5, 40, 40)):
        np.testing.assert_array_equal(seen[0].read(box), one[box.slices])
    plain = array_volume(images[0], "stack")
    assert grey_values.as_seen(plain, "training") is plain
    empty = grey_values.as_seen(array_volume(np.full((2, 3, 3), 9, np.uint8), "empty"), "volume")
    assert (empty.read(whole(empty.shape)) == 0).all()
    with pytest.raises(BadInput, match="normalisation must be one of training, volume"):
        grey_values.check("slice")
