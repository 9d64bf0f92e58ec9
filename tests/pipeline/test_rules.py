"""A segmenter that learns nothing, through the pipeline: what it knows of the whole image is found once and kept."""

import json

import numpy as np
import pytest
from resin import tissue_in_resin

from maeref_jax.commands import load_models
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import jobs, methods, passes, refining
from maeref_jax.results import marks, verifying
from maeref_jax.results.place import Output
from maeref_jax.segmenters import texture
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

SHAPE, SIZE = (4, 50, 62), (40.0, 20.0, 20.0)


def image(seed=0):
    return tissue_in_resin(SHAPE, 16, seed)[0].astype(np.float32)


def job(directory, array=None):
    return jobs.Job("a", directory, image=array_volume(image() if array is None else array, "image", SIZE))


def settings(**changes):
    return jobs.Settings(**({"block": (4, 64, 64), "tiff_export": False, "objects": False} | changes))


def model(name="texture"):
    return load_models.by_name(name, kind="segmenter")


def stored(directory, role):
    return refining.open_result(directory, "a", role).read(whole(SHAPE))


def test_labels_and_entropy_are_those_of_the_ballots_whatever_the_blocks(tmp_path):
    given, found, entropies = image(), model(), []
    statistics = found.apply.statistics(job(tmp_path).image)
    members = found.apply.predict(statistics, job(tmp_path).image, whole(SHAPE))
    assert members.shape == (10, *SHAPE, 2)
    for number, block in enumerate([(4, 64, 64), (1, 16, 24), (3, 40, 12)]):
        summary = refining.refine_volume(job(tmp_path / str(number), given), found, None, settings(block=block))
        labels, entropy = (stored(tmp_path / str(number), role) for role in ("initial", "entropy"))
        sure = np.abs(members.mean(0)[..., 1] - 0.5) > 1e-5  # of a tie the last digit decides
        np.testing.assert_array_equal(labels[sure], members.mean(0).argmax(-1)[sure])
        entropies.append(entropy)
        np.testing.assert_array_equal(entropy, entropies[0])
    assert summary["classes"] == ["resin", "tissue"] and summary["statistics"]["kind"] == "two"
    assert 0 < labels.mean() < 1


def test_what_it_knows_of_the_image_is_found_once_and_workers_and_a_resumed_run_use_it(tmp_path, monkeypatch):
    once = refining.refine_volume(job(tmp_path / "once"), model(), None, settings(block=(2, 32, 32)))
    mark, marked = marks.mark, []

    def mark_or_stop(place, step, box, *told):
        marked.append(step)
        if len(marked) == 3:
            raise OSError("no space left")
        mark(place, step, box, *told)

    monkeypatch.setattr(marks, "mark", mark_or_stop)
    with pytest.raises(OSError, match="no space"):
        refining.refine_volume(job(tmp_path / "killed"), model(), None, settings(block=(2, 32, 32)))
    monkeypatch.undo()
    monkeypatch.setattr(texture, "statistics", lambda *given: pytest.fail("they are in the output"))
    worker = refining.open_run(job(tmp_path / "killed"), model(), None, settings(block=(2, 32, 32)), serving=True)
    passes.passes(worker)["segment"](worker.boxes[-1])
    again = refining.refine_volume(job(tmp_path / "killed"), model(), None, settings(block=(2, 32, 32)))
    assert again["statistics"] == once["statistics"]
    for role in ("initial", "entropy", "hidden"):
        np.testing.assert_array_equal(stored(tmp_path / "killed", role), stored(tmp_path / "once", role))
    assert verifying.verify(Output(tmp_path / "killed", "a")).state == verifying.WHOLE


def test_its_doubts_are_the_outputs(tmp_path):
    told = []
    constant = np.full(SHAPE, 7, np.float32)
    summary = refining.refine_volume(job(tmp_path, constant), model(), None, settings(), told.append)
    assert not stored(tmp_path, "initial").any() and not stored(tmp_path, "entropy").any()
    assert any("7 nearly everywhere" in text for text in summary["warnings"])
    assert any("7 nearly everywhere" in line for line in told)
    assert json.loads((tmp_path / "a.json").read_text())["statistics"]["kind"] == "nothing"


def test_a_workdir_of_its_own_settings(tmp_path):
    from maeref_jax.training import workdir

    known = {**model().settings, "lengths": {"window_nm": 100.0, "texture_nm": 20.0, "edge_nm": 20.0}}
    workdir.write_config(tmp_path, known, {})
    loaded = methods.load_model(tmp_path, "segmenter")
    assert loaded.settings["lengths"]["window_nm"] == 100
    votes, usual = (
        m.apply.predict(m.apply.statistics(v), v, whole(SHAPE))
        for m, v in ((loaded, job(tmp_path).image), (model(), job(tmp_path).image))
    )
    assert (votes != usual).any()


def test_others_are_refused_by_name():
    for name, expected in (("ensemble", "has to be trained first"), ("nearest", "is no segmenter")):
        with pytest.raises(BadInput, match=expected):
            model(name)
