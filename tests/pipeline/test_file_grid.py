"""Worked at another voxel size, and brought back to the file's voxels: the same labels, whole or not at all."""

import json

import numpy as np
import pytest
import tifffile
from fakes import SHAPE, image, label_job, labels, refiner, segmenter, settings

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.pipeline import checks, file_grid, jobs, refining, space
from maeref_jax.results import maps, repairing, verifying
from maeref_jax.results.place import Output
from maeref_jax.volumes.resolution import at_voxel_size, onto
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole

WORKED, FILE = (30.0, 5.0, 4.0), (15.0, 2.5, 2.0)
ROLES = ("initial", "refined", "hidden", "entropy", "confidence")


def fine(array):
    return array.repeat(2, -3).repeat(2, -2).repeat(2, -1)


def image_job(directory, size=FILE, wanted=WORKED, array=None):
    given = array_volume(fine(image()) if array is None else array, "image", size)
    return jobs.Job("a", directory, image=at_voxel_size(given, wanted, "mean"))


def run(job, **changes):
    model = None if job.labels else segmenter()
    said = []
    summary = refining.refine_volume(job, model, refiner(), settings(**({"block": (8, 64, 80)} | changes)), said.append)
    return summary, said


def on_file(directory):
    place = file_grid.as_output(Output(directory, "a"))
    arrays = maps.open_arrays(place, ROLES)
    assert {volume.shape for volume in arrays.values()} == {next(iter(arrays.values())).shape}
    return {role: volume.read(whole(volume.shape)) for role, volume in arrays.items()}


def worked(directory):
    return {role: refining.open_result(directory, "a", role).read(whole(SHAPE)) for role in ROLES}


def test_the_result_is_that_of_the_working_size_and_comes_back_exactly(tmp_path):
    direct = jobs.Job("a", tmp_path / "direct", image=array_volume(image(), "image", WORKED))
    run(direct)
    summary, said = run(image_job(tmp_path))
    found = worked(tmp_path)
    for role, array in worked(tmp_path / "direct").items():
        np.testing.assert_array_equal(found[role], array)
    back = on_file(tmp_path)
    for role in ("initial", "refined", "hidden", "confidence"):
        np.testing.assert_array_equal(back[role], fine(found[role]))
    assert 0 < found["hidden"].mean() < 1
    # Linear between centres: the mean over what a voxel covers stays near, corners of the volume are those of theirs.
    assert back["entropy"][0, 0, 0] == found["entropy"][0, 0, 0]
    between = (3 * int(found["entropy"][0, 0, 0]) + int(found["entropy"][0, 0, 1])) / 4
    assert abs(back["entropy"][0, 0, 1] - between) <= 0.5
    place = Output(tmp_path, "a")
    assert open_volume(place.folder / "labels" / "refined").voxel_size_nm == WORKED
    assert open_volume(place.on_file_grid / "labels" / "refined").voxel_size_nm == FILE
    assert open_volume(place.on_file_grid / "entropy").voxel_size_nm == FILE
    for name in ("initial", "refined", "entropy", "hidden"):
        assert open_volume(place.export(name)).voxel_size_nm == pytest.approx(FILE)
        expected = back[name] * 255 if name == "hidden" else back[name]
        np.testing.assert_array_equal(tifffile.imread(place.export(name)), expected)
    told = summary["file_grid"]
    assert told["worked_at_nm"] == list(WORKED) and told["voxel_size_nm"] == list(FILE)
    assert told["shape"] == [2 * n for n in SHAPE] and told["brought_back_by"]["entropy"] == "mean"
    (line,) = [line for line in said if "brought back" in line]
    assert line.startswith("a: worked at 30 x 5 x 4 nm (z y x), brought back to the file's 15 x 2.5 x 2 nm: labels")
    assert line in summary["notes"] and summary == json.loads((tmp_path / "a.json").read_text())
    assert "file_grid" not in json.loads((tmp_path / "direct" / "a.json").read_text())
    assert not Output(tmp_path / "direct", "a").on_file_grid.exists()


def detailed():
    """Labels on the fine grid with detail that no coarser voxel has, and blobs of entropy."""
    drawn = fine(labels())
    drawn[:, ::3, ::2] = np.random.default_rng(1).integers(0, 4, drawn[:, ::3, ::2].shape)
    entropy = np.zeros(SHAPE, np.float32)
    entropy[1, 8:16, 4:12] = 1.0
    return drawn, fine(entropy)


def own_labels(directory, size=FILE, wanted=WORKED):
    drawn, entropy = detailed()
    return label_job(
        directory,
        labels=at_voxel_size(array_volume(drawn, "labels", size), wanted, "mode"),
        entropy=at_voxel_size(array_volume(entropy, "entropy", size), wanted, "mean"),
    )


@pytest.mark.parametrize(("size", "wanted"), [(FILE, WORKED), ((20.0, 7.0, 5.0), (30.0, 9.0, 11.0)), (WORKED, FILE)])
def test_labels_of_ones_own_stay_as_they_are_where_the_refiner_left_them(tmp_path, size, wanted):
    job = own_labels(tmp_path, size, wanted)
    summary, said = run(job, tiff_export=False)
    assert summary["changed_voxels"] > 0 and any("as in the file" in line for line in said)
    back, (drawn, _) = on_file(tmp_path), detailed()
    np.testing.assert_array_equal(back["initial"], drawn)
    changed = {
        role: refining.open_result(tmp_path, "a", role).read(whole(job.labels.shape)) for role in ("initial", "refined")
    }
    became = np.where(changed["initial"] == changed["refined"], np.uint16(256), changed["refined"])
    became = onto(array_volume(became, "changes", wanted), drawn.shape, size, "mode").read(whole(drawn.shape))
    np.testing.assert_array_equal(back["refined"], np.where(became == 256, drawn, became))
    assert (back["refined"] != drawn).any() and (back["refined"] == drawn).mean() > 0.5


def test_a_larger_voxel_of_the_file_is_hidden_where_any_of_it_is(tmp_path):
    hidden, size, file = np.zeros((1, 6, 6), np.uint8), (5.0, 5.0, 5.0), (5.0, 15.0, 15.0)
    hidden[0, 4, 3] = 1
    job = image_job(tmp_path, file, size, np.zeros((1, 2, 2), np.float32))
    back = file_grid.brought_back(job, {"hidden": array_volume(hidden, "hidden", size)})["hidden"]
    assert back.voxel_size_nm == file and back.read(whole(back.shape)).tolist() == [[[0, 0], [0, 1]]]


def test_classes_vote_and_not_ids(tmp_path):
    """Two objects of one class are a majority together."""
    ids = np.random.default_rng(2).choice(np.array([0, 5, 7, 9], np.uint8), (2, 8, 8), p=(0.4, 0.2, 0.2, 0.2))
    job = label_job(
        tmp_path,
        labels=at_voxel_size(array_volume(ids, "labels", (5, 5, 5)), (10, 10, 10), "mode"),
        entropy=at_voxel_size(
            array_volume(np.zeros(ids.shape, np.float32), "entropy", (5, 5, 5)), (10, 10, 10), "mean"
        ),
    )
    scheme = {"names": ["background", "cell"], "colours": [[0, 0, 0], [1, 1, 1]], "ambiguous": -1}
    given = settings(label_map=("instances",), tiff_export=False)
    refining.refine_volume(job, None, refiner(scheme=scheme), given, lambda text: None)
    found = refining.open_result(tmp_path, "a", "initial").read(whole((1, 4, 4)))
    expected = (ids > 0).reshape(1, 2, 4, 2, 4, 2).sum((1, 3, 5)) > 4
    np.testing.assert_array_equal(found, expected)
    votes = at_voxel_size(array_volume(ids, "labels", (5, 5, 5)), (10, 10, 10), "mode").read(whole((1, 4, 4)))
    assert ((votes > 0) != expected).any(), "ids alone would have decided otherwise"


def test_blocks_and_odd_ratios_change_nothing(tmp_path):
    array = np.random.default_rng(3).normal(100, 60, (5, 41, 37)).astype(np.float32)
    found = []
    for name, block in (("one", (8, 64, 64)), ("other", (2, 16, 12))):
        run(image_job(tmp_path / name, (20.0, 7.0, 3.0), WORKED, array), block=block, tiff_export=False)
        found.append(on_file(tmp_path / name))
    for role in ROLES:
        assert found[0][role].shape == array.shape
        np.testing.assert_array_equal(found[0][role], found[1][role])


def bytes_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_is_there_whole_or_not_at_all_and_is_made_again(tmp_path, monkeypatch):
    run(image_job(tmp_path / "whole"))
    expected, place = bytes_of(Output(tmp_path / "whole", "a").on_file_grid), Output(tmp_path, "a")
    before = maps.write_pyramids

    def killed(output, roles):
        if output.stem != "a":
            raise OSError("the disk is full")
        return before(output, roles)

    monkeypatch.setattr(maps, "write_pyramids", killed)
    with pytest.raises(OSError, match="disk is full"):
        run(image_job(tmp_path))
    assert not place.on_file_grid.exists() and not place.sidecar.exists()
    monkeypatch.undo()
    run(image_job(tmp_path))
    assert bytes_of(place.on_file_grid) == expected and not list(tmp_path.glob(".*.partial"))
    assert verifying.verify(place).state == verifying.WHOLE
    # Gone, and damaged.
    repairing.remove_path(place.on_file_grid)
    assert verifying.verify(place).state == verifying.DAMAGED
    _, said = run(image_job(tmp_path))
    assert any("complete but for a_on_file_grid.ome.zarr" in line for line in said)
    assert bytes_of(place.on_file_grid) == expected
    (place.on_file_grid / "entropy" / "zarr.json").write_text("{}")
    place.export("hidden").unlink()
    with pytest.raises(CannotGoOn, match=r"a_on_file_grid.ome.zarr was damaged or changed .*--repair"):
        run(image_job(tmp_path))
    repairing.repair(verifying.verify(place))
    run(image_job(tmp_path))
    assert bytes_of(place.on_file_grid) == expected and place.export("hidden").exists()
    assert [path.name for path in tmp_path.glob("*.damaged")] == ["a_on_file_grid.ome.zarr.damaged"]
    assert [found.stem for found in verifying.places_in(tmp_path)] == ["a"], "it is no result of its own"


def test_what_is_not_ours_is_never_replaced(tmp_path):
    mine = Output(tmp_path, "a").on_file_grid / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    with pytest.raises(BadInput, match=r"a_on_file_grid.ome.zarr is there already and was not made by refine.py"):
        run(image_job(tmp_path))
    assert mine.read_text() == "mine" and not (tmp_path / "a.ome.zarr").exists()


def test_another_size_is_another_result(tmp_path):
    run(image_job(tmp_path))
    with pytest.raises(BadInput, match=r"was made otherwise: .*at 30 x 5 x 4 nm by mean|voxel_size_nm"):
        run(image_job(tmp_path, wanted=(30.0, 5.0, 8.0)))


def test_disk_is_counted(tmp_path):
    roles, file = ("initial", "entropy", "hidden"), array_volume(np.zeros((8, 64, 64), np.uint8), "a", (5, 5, 5))
    given = (roles, (4, 32, 32), (8, 64, 64), (10, 10, 10), None, (".tif",))
    plain, more = space.needed(*given), space.needed(*given, file)
    assert more.least == 8 * plain.least == 3 * 8 * 64 * 64
    assert more.beside - plain.beside >= 3 * 8 * 64 * 64 and more.arrays == plain.arrays


def test_exports_of_the_file_too_large_for_tiff_are_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "LARGEST_BYTES", 2 * np.prod(SHAPE))
    with pytest.raises(BadInput, match=r"a of shape \(6, 58, 76\) is too large for TIFF"):
        run(image_job(tmp_path))


@pytest.mark.parametrize("own", [True, False])
def test_outside_of_a_mask_all_is_background_on_the_grid_of_the_file(tmp_path, own):
    """Labels of the file are not kept there, and entropy does not reach across the border."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:2, 4:17, 5:22] = 1
    job = image_job(tmp_path)
    if own:
        given = fine(labels()).copy()
        given[:, ::2, ::2] = 3  # smaller than the voxels that are worked on
        entropy = array_volume(np.full(given.shape, 0.9, np.float32), "entropy", FILE)
        volumes = {"labels": at_voxel_size(array_volume(given, "labels", FILE), WORKED, "mode")}
        job = label_job(tmp_path, **volumes, entropy=at_voxel_size(entropy, WORKED, "mean"))
    run(job._replace(within=array_volume(fine(mask), "mask", FILE)), keep_probabilities=not own)
    run(job._replace(output=tmp_path / "plain"))
    back, plain = on_file(tmp_path), on_file(tmp_path / "plain")
    for role, array in back.items():
        assert not array[fine(mask) == 0].any(), role
    inside = fine(mask) > 0
    np.testing.assert_array_equal(back["initial"][inside], plain["initial"][inside])
    assert plain["initial"][~inside].any() and plain["entropy"][~inside].any()
    assert back["entropy"][inside].any() and back["initial"].dtype == np.uint8
    if not own:  # of labels there are no probabilities
        kept = [file_grid.open_result(tmp_path, "a", role) for role in maps.probabilities(5)]
        first, *others = (volume.read(whole(volume.shape)) for volume in kept)
        assert (first[~inside] == 255).all() and not any(other[~inside].any() for other in others)
        assert (first[inside] < 255).any()
