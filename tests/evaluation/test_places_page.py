"""evaluation/places.py: the task from volumes to its page; scores beside the entropies; slabs that add up."""

import json

import numpy as np
import pytest
import tifffile
from closed_form import SETTINGS, evaluate
from closed_form import models as closed_form_models

from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases, places
from maeref_jax.metrics import places as counting
from maeref_jax.pipeline import methods, refining
from maeref_jax.volumes.volume import array_volume, labels_from_disk
from maeref_jax.volumes.windows import whole

SOMEBODY = "error that one expects"
TASK = ("--config.task=places", "--config.refiner=none", "--config.phantom.seeds=100,101")


@pytest.fixture
def ensemble(monkeypatch):
    """The closed-form one in the place of a trained one; it has three members."""
    found = closed_form_models()
    found["segmenter"] = found["segmenter"]._replace(settings=SETTINGS | {"members": 3})
    known = SETTINGS | {"use": {"temperature": 1.0, "gain": 0.1, "caution": 1.0}}
    found["refiner"] = found["refiner"]._replace(name="corrector", settings=known)
    monkeypatch.setattr(methods, "load_model", lambda _, kind: found[kind])
    return found["segmenter"]


def test_errors_are_found_by_what_knows_them(root, tmp_path, ensemble, monkeypatch, capsys):
    seen = {}

    def knows(case, ensemble, judge, output):
        """The true errors, but a tenth of them."""
        volume = refining.open_result(output.parent, case.stem, "initial")
        score = counting.perfect(labels_from_disk(volume.read(whole(volume.shape))), case.truth)
        score[:, ::10] = 0
        seen[case.stem] = score
        return score

    monkeypatch.setattr(places, "expected", knows)
    evaluate(root, tmp_path, *TASK, "--config.judges=('runs/one',)")
    printed, found = capsys.readouterr().out, json.loads((tmp_path / "places.json").read_text())
    assert set(seen) == {"phantom_100", "phantom_101"}
    names = ["entropy of the mean", "entropy of the votes", "mutual information", SOMEBODY, "the errors themselves"]
    assert list(found["scores"]) == names
    curves = {name: np.array(one["errors_caught"]) for name, one in found["scores"].items()}
    best, first = curves["the errors themselves"], curves["entropy of the mean"]
    assert all((curve <= best + 1e-5).all() for curve in curves.values()) and (curves[SOMEBODY] >= first - 0.05).all()
    times = found["scores"][SOMEBODY]["times_entropy"]
    assert 1 < times["low"] <= times["estimate"] <= times["high"]
    assert found["scores"]["entropy of the mean"]["times_entropy"]["estimate"] == 1
    assert found["scores"]["the errors themselves"]["auroc"] == {"everywhere": 1, "inside": 1, "outside": 1}
    assert 0.85 < found["scores"][SOMEBODY]["average_precision"]["everywhere"] < 1
    truth = [tifffile.imread(tmp_path / "held_out" / f"phantom_{seed}_truth.tif") for seed in (100, 101)]
    hidden = [tifffile.imread(tmp_path / "held_out" / f"phantom_{seed}_hidden.tif") > 0 for seed in (100, 101)]
    initial = [tifffile.imread(tmp_path / "held_out" / f"phantom_{seed}_initial.tif") for seed in (100, 101)]
    wrong = np.stack(truth) != np.stack(initial)
    assert found["errors"] == wrong.sum()
    assert found["hidden_today"]["area"] == pytest.approx(np.mean(hidden), abs=1e-5)
    assert found["hidden_today"]["errors_caught"] == pytest.approx(
        wrong[np.stack(hidden)].sum() / wrong.sum(), abs=1e-5
    )
    for title in ("Errors caught at equal hidden area", "Does it know which voxels are wrong?", "Volume by volume"):
        assert title in printed
    assert f"{found['hidden_today']['area']:.1%}, as today" in printed
    page = (tmp_path / "places.html").read_text(encoding="utf-8")
    assert "Figure 1. Errors caught against hidden area" in page
    assert (tmp_path / "places.png").read_bytes().startswith(b"\x89PNG")
    log = (tmp_path / "openings.log").read_text()
    assert log.endswith("volumes phantom_100, phantom_101  models ensemble E, judge one R\n"), (
        "looking at errors is a look"
    )


def test_slabs_add_up_to_the_volume(ensemble):
    draw = np.random.default_rng(0)
    image = draw.uniform(40, 200, (19, 32, 40)).astype(np.float32)
    truth = draw.integers(-1, 4, image.shape).astype(np.int16)
    initial, hidden = draw.integers(0, 4, image.shape).astype(np.uint8), draw.random(image.shape) < 0.3
    arrays = {"initial": initial, "hidden": hidden.astype(np.uint8)}
    results = {role: array_volume(array, role) for role, array in arrays.items()}
    score = draw.integers(0, 256, image.shape).astype(np.uint8)
    case = cases.Case("it", truth, None, {"image": array_volume(image, "image")}, None)
    found = places.count(case, results, ensemble, 4, {"mine": score})
    np.testing.assert_array_equal(found["mine"], counting.count(score, initial, truth, 4, hidden))
    np.testing.assert_array_equal(
        found[places.ORACLE], counting.count(counting.perfect(initial, truth), initial, truth, 4, hidden)
    )
    twice = places.added([found, found])
    np.testing.assert_array_equal(twice["mine"].tokens.wrong, 2 * found["mine"].tokens.wrong)
    alone = places.tables({"it": found}, {name: places.times_as_many({"it": found}, name) for name in found})
    assert len(alone) == 2 and "[" not in "".join(alone[0].rows[1]), (
        "one volume has no interval, and is no row of its own"
    )
    assert places.hidden_share(found)[0] == pytest.approx(hidden[truth >= 0].mean())


def test_what_cannot_be_judged_is_told_before_anything_is_written(root, tmp_path, ensemble):
    truth = np.random.default_rng(0).integers(0, 4, (2, 32, 32)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "truth.tif", truth, imagej=True, metadata={"axes": "ZYX"})
    given = [TASK[0], "--config.phantom.seeds=", f"--config.files.truths={tmp_path}/truth.tif"]
    with pytest.raises(BadInput, match="needs images to judge"):
        evaluate(root, tmp_path / "new", *given, TASK[1])
    with pytest.raises(BadInput, match="'places' needs an ensemble and images"):
        evaluate(root, tmp_path / "new", *given, "--config.files.damage=20")
    assert not (tmp_path / "new" / "places.html").exists()
