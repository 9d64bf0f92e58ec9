"""report/most_changed.py: where most changed is found block by block, and shown."""

import numpy as np
from fakes import COLOURS, SCHEME, SHAPE, label_job, labels, refiner, settings
from test_canvas import is_colour, pixels_of

from maeref_jax.pipeline import refining
from maeref_jax.report import most_changed
from maeref_jax.report.page import Picture, Slider
from maeref_jax.results import output
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole


def test_the_pictures_are_those_of_the_slice_where_most_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(most_changed, "WINDOW", 16)
    entropy = np.zeros(SHAPE, np.float32)
    entropy[1, 8:16, 20:32] = 1.0
    job = label_job(tmp_path, entropy=array_volume(entropy, "entropy"))
    refining.refine_volume(job, None, refiner(), settings(tiff_export=False))
    found = {role: refining.open_result(tmp_path, "a", role).read(whole(SHAPE)) for role in ("initial", "refined")}
    changed = (found["initial"] != found["refined"])[1]
    summary = output.load_sidecar(Output(tmp_path, "a"))
    classes = {"names": SCHEME["names"], "colours": COLOURS}
    heading, (slider, picture) = most_changed.volume_pictures(tmp_path, "a", summary, None, classes)
    assert heading == "a" and isinstance(slider, Slider) and isinstance(picture, Picture)
    assert "slice 1" in slider.caption and f"{changed.sum():,} in the whole slice" in slider.caption
    before, after = (pixels_of(png) for png in (slider.before, slider.after))
    by = before.shape[0] // 16
    differ = (before != after).any(-1)[by // 2 :: by, by // 2 :: by].sum()
    assert f"{differ} of the voxels in view" in slider.caption and differ > 0.8 * changed.sum()
    nothing = summary | {"made_by": summary["made_by"] | {"refiner": None}}
    heading, (picture,) = most_changed.volume_pictures(tmp_path, "a", nothing, None, classes)
    assert isinstance(picture, Picture)
    assert is_colour(pixels_of(picture.png), COLOURS[3]).any()


def test_slices_are_those_where_most_is_and_apart():
    totals = np.array([0, 5, 9, 9, 3, 0, 0, 8, 1, 7, 0, 2])
    assert most_changed.choose_slices(totals) == [2, 7, 11]
    assert most_changed.choose_slices(np.zeros(5, int)) == []
    volume = array_volume(labels(), "labels")
    counts = most_changed.counts_by_block(volume, (2, 16, 16))
    assert counts.shape == (3, 2, 3) and counts[2, 1, 2] == np.count_nonzero(labels()[2, 16:, 32:])
    np.testing.assert_array_equal(counts.sum((1, 2)), np.count_nonzero(labels(), axis=(1, 2)))
