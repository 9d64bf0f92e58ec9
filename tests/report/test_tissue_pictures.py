"""The outline of a tissue mask over coarse slices in three directions, and the page of a folder."""

import io

import numpy as np
import pytest
from PIL import Image

from maeref_jax.report import tissue
from maeref_jax.volumes.volume import array_volume

SHAPE, SIZE = (9, 30, 40), (40.0, 20.0, 20.0)


def ball():
    z, y, x = np.indices(SHAPE)
    return ((2 * (z - 4)) ** 2 + (y - 15) ** 2 + (x - 20) ** 2 < 80).astype(np.uint8)


def drawn(mask, image=None, size=SIZE):
    volumes = array_volume(mask, "mask", size), None if image is None else array_volume(image, "image", size)
    return np.asarray(Image.open(io.BytesIO(tissue.outline_picture(*volumes))).convert("RGB"))


def outline(picture):
    return (picture == tissue.HIDDEN_COLOUR).all(-1)


def test_it_is_the_border_of_the_mask_in_three_directions_in_their_proportions():
    image = np.random.default_rng(0).integers(0, 255, SHAPE).astype(np.uint8)
    one, other = drawn(ball(), image), drawn(ball())
    assert outline(one).sum() > 1000 and outline(other).sum() > 1000
    np.testing.assert_array_equal(drawn(ball(), image), one)
    nothing = outline(drawn(ball() * 0, image)).sum()
    assert nothing < outline(one).sum() / 3, "the line in the legend alone"


@pytest.mark.parametrize("axis", range(3))
def test_a_slice_is_that_of_the_mask(axis, monkeypatch):
    panels = []
    monkeypatch.setattr(tissue, "compose", lambda rows, keys: panels.extend(rows) or b"")
    tissue.outline_picture(array_volume(ball(), "mask", SIZE))
    middle = panels[axis][1]
    at = SHAPE[axis] // 2
    share = ball().take(at, axis).mean()
    assert middle.title == f"{'zyx'[axis]} = {at}: {share:.0%} tissue"
    heights = {0: 30 / 40, 1: 18 / 40, 2: 18 / 30}
    assert middle.picture.shape[0] / middle.picture.shape[1] == pytest.approx(heights[axis])
    assert panels[axis][0].nm_per_pixel == pytest.approx(20 / middle.enlarge) and middle.nm_per_pixel is None


def test_a_volume_of_one_slice_and_one_without_a_voxel_size():
    assert outline(drawn(ball()[4:5])).any() and outline(drawn(ball(), size=None)).any()


def test_a_folder_without_masks_has_no_page(tmp_path):
    assert tissue.write_page(tmp_path) is None and not (tmp_path / "tissue.html").exists()
