"""maeref verify: what was changed is found and named; after --repair the same command ends in the same bytes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fakes import SHAPE, label_job, refiner, settings
from outputs import content, copied, half_finished, run

from maeref_jax.commands import verify
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.pipeline import passes, refining
from maeref_jax.volumes.volume import array_volume

ZARR = "a.ome.zarr"
MADE_IT = "maeref refine --labels 'my labels.tif' --output out"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    run(place)
    return place


def chunk(array, block="0/0/0"):
    return f"{ZARR}/{array}/0/c/{block}"


def exchange(one, other):
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)


def flip(path):
    """One bit in the middle."""
    found = bytearray(path.read_bytes())
    found[len(found) // 2] ^= 1
    path.write_bytes(found)


def edit(path):
    path.write_text(path.read_text().replace('"hidden": ', '"hidden": 1'))


DAMAGE = {  # how, of which files, what is said
    "chunk gone": (Path.unlink, [chunk("labels/initial")], ["labels/initial, block (0, 0, 0) reads as background"]),
    "chunks exchanged": (
        exchange,
        [chunk("labels/refined"), chunk("labels/refined", "0/1/0")],
        ["labels/refined, block (0, 0, 0) holds other voxels", "labels/refined, block (0, 16, 0) holds other voxels"],
    ),
    "bit flipped": (flip, [chunk("labels/hidden", "1/1/1")], ["labels/hidden, block (2, 16, 20) cannot be read"]),
    "of the last steps": (Path.unlink, [chunk("labels/trust")], ["labels/trust, block (0, 0, 0) reads as background"]),
    "array gone": (Path.unlink, [f"{ZARR}/confidence/0/zarr.json"], ["confidence cannot be opened"]),
    "mark edited": (edit, [f"{ZARR}/progress/segment/0_0_20.json"], ["progress/segment/0_0_20.json is damaged"]),
    "notes gone": (Path.unlink, [f"{ZARR}/progress/digests.json"], ["digests.json is missing or damaged"]),
    "settings gone": (Path.unlink, [f"{ZARR}/progress/made_by.json"], ["made_by.json is missing or damaged"]),
    "grid edited": (flip, [f"{ZARR}/progress/grid.json"], ["grid.json is missing or damaged"]),
}


def told(capsys, *argv):
    code = verify.main([*map(str, argv)])
    return code, capsys.readouterr().out


@pytest.mark.parametrize("names", [list(DAMAGE)[:4], list(DAMAGE)[4:7], list(DAMAGE)[7:]], ids=", ".join)
def test_damage_is_named_and_repaired_to_the_same_bytes(finished, tmp_path, capsys, names):
    place = copied(finished, tmp_path / "out")
    for how, files, _ in (DAMAGE[name] for name in names):
        how(*(place / file for file in files))
    damaged = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    code, out = told(capsys, place)
    assert code == 1 and f"{place / 'a'}: damaged" in out
    for line in (line for name in names for line in DAMAGE[name][2]):
        assert line in out
    command = "the same command that made it" if "grid edited" in names else MADE_IT
    assert f"to make it again: maeref verify --repair {place / ZARR}, then: {command}\n" in out
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == damaged, "it only looks"
    code, out = told(capsys, "--repair", place / "a.json")
    assert code == 1 and f"to make it again: {command}" in out and not (place / "a.json").exists()
    run(place)
    assert content(place) == content(finished)
    assert told(capsys, place)[0] == 0


def test_what_is_whole_is_said_to_be_in_any_way_that_it_is_named(finished, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    for name in ("", "a.json", ZARR):
        code, out = told(capsys, finished / name)
        assert code == 0 and f"{finished / 'a'}: whole" in out and "0 other parts" not in out and out.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before
    for wrong in (finished / "b.json", finished / "nothing", finished / ZARR / "labels"):
        with pytest.raises(BadInput, match="is no output of maeref refine"):
            verify.main([str(wrong)])


def test_files_that_somebody_changed_are_put_aside_and_made_again(finished, tmp_path, capsys):
    place = copied(finished, tmp_path)
    (place / "a_objects.csv").write_text("mine")
    (place / "a_skeletons" / "notes.txt").write_text("mine")
    flip(place / "a_refined.tif")
    code, out = told(capsys, place)
    assert code == 1 and out.count("was changed after it was made") == 3
    assert told(capsys, "--repair", place)[0] == 1
    assert (place / "a_objects.csv.damaged").read_text() == "mine" and (place / "a.json").exists()
    assert (place / "a_skeletons.damaged" / "notes.txt").read_text() == "mine"
    run(place)
    assert content(place) == content(finished) and told(capsys, place)[0] == 0
    assert (place / "a_objects.csv.damaged").read_text() == "mine"


def test_coarser_levels_belong_to_it(tmp_path, capsys):
    labels = np.random.default_rng(0).integers(0, 3, (1, 72, 72)).astype(np.uint8)
    given = {"labels": array_volume(labels, "labels"), "entropy": array_volume(labels / 2, "entropy")}
    job, asked = label_job(tmp_path, **given), settings(block=(1, 72, 72), tiff_export=False)
    refining.refine_volume(job, None, refiner(), asked)
    level = tmp_path / ZARR / "entropy" / "1"
    assert told(capsys, tmp_path)[0] == 0
    kept = (level / "c/0/0/0").read_bytes()
    (level / "c/0/0/0").unlink()
    code, out = told(capsys, "--repair", tmp_path)
    assert code == 1 and "entropy/1 was changed" in out and "the same command that made it" in out
    refining.refine_volume(job, None, refiner(), asked)
    assert (level / "c/0/0/0").read_bytes() == kept and told(capsys, tmp_path)[0] == 0
    shutil.rmtree(level)
    refining.refine_volume(job, None, refiner(), asked)
    assert (level / "c/0/0/0").read_bytes() == kept, "what the sidecar names and is gone is made again"


def test_a_chunk_of_background_may_be_missing_and_another_may_not(tmp_path, capsys):
    labels = np.full(SHAPE, 2, np.uint8)
    labels[:2, :16, :20] = 0
    job, asked = label_job(tmp_path, labels=array_volume(labels, "labels")), settings(block=(2, 16, 20))
    refining.refine_volume(job, None, refiner(), asked)
    assert not (tmp_path / chunk("labels/initial")).exists() and told(capsys, tmp_path)[0] == 0
    (tmp_path / chunk("labels/initial", "0/0/1")).unlink()
    code, out = told(capsys, tmp_path)
    assert code == 1 and "block (0, 0, 20) reads as background: its chunk is gone" in out


@pytest.mark.parametrize("name", ["chunk gone", "chunks exchanged", "bit flipped"])
def test_what_a_pass_builds_on_is_compared_before(finished, tmp_path, capsys, name):
    """Damaged between the passes, or between the passes and what comes last."""
    place = half_finished(copied(finished, tmp_path))
    how, files, _ = DAMAGE[name]
    how(*(place / file for file in files))
    if name != "chunks exchanged":  # of the second pass
        shutil.rmtree(place / ZARR / "progress" / "refine")
    with pytest.raises(CannotGoOn, match=r"a: the block \(.*\) of .*; maeref verify --repair .*, then the same"):
        run(place)
    assert not (place / "a.json").exists()
    assert told(capsys, place)[0] == 1 and told(capsys, "--repair", place)[0] == 1
    run(place)
    assert content(place) == content(finished)


def test_not_finished_is_not_whole(finished, tmp_path, capsys):
    place = half_finished(copied(finished, tmp_path))
    (place / ZARR / "progress" / "refine" / "0_0_20.json").unlink()
    code, out = told(capsys, place)
    assert code == 1 and "a: not finished" in out and "(1 blocks are to be done): maeref refine --labels" in out


def test_killed_while_repairs_are_taken_back_nothing_looks_damaged(finished, tmp_path, capsys, monkeypatch):
    place, real = half_finished(copied(finished, tmp_path)), passes.marks.mark

    def killed(output, step, box, *others):
        real(output, step, box, *others)
        if step == "leave" and box.start == (0, 16, 0):  # noted, and not written yet
            raise KeyboardInterrupt

    monkeypatch.setattr(passes.marks, "mark", killed)
    for path in (place / ZARR / "progress" / "refine").iterdir():
        path.unlink()  # so that the repairs are there again
    with pytest.raises(KeyboardInterrupt):
        run(place)
    monkeypatch.undo()
    code, out = told(capsys, place)
    assert code == 1 and "a: not finished" in out
    run(place)
    assert content(place) == content(finished) and told(capsys, place)[0] == 0


def before_digests(place):
    """As an earlier version left it."""
    progress = place / ZARR / "progress"
    shutil.rmtree(progress / "files", ignore_errors=True), shutil.rmtree(progress / "leave")
    for path in (progress / "grid.json", progress / "digests.json"):
        path.unlink(missing_ok=True)
    for path in [place / "a.json", *progress.rglob("*.json")]:
        if path.exists():
            told = json.loads(path.read_text())
            kept = {key: value for key, value in told.items() if key not in ("digests", "check", "files", "arrays")}
            path.write_text(json.dumps(kept))


def test_of_results_from_before_digests_it_says_so(finished, tmp_path, capsys):
    place, said = copied(finished, tmp_path), []
    before_digests(place)
    code, out = told(capsys, place)
    assert code == 0 and "made before digests were kept" in out and "can be read, more is not known" in out
    run(place, said.append)
    assert "complete already" in said[-1]
    flip(place / chunk("labels/refined"))
    code, out = told(capsys, "--repair", place)
    assert code == 1 and "cannot be repaired; to make it anew: the same command that made it with --overwrite" in out
    run(place, overwrite=True, objects=False)
    assert not (place / "a_objects.csv").exists() and told(capsys, place)[0] == 0


def test_what_was_begun_before_digests_goes_on_and_says_what_it_trusts(finished, tmp_path, capsys):
    place, said = half_finished(copied(finished, tmp_path)), []
    before_digests(place)
    for path in (place / ZARR / "progress" / "refine").iterdir():
        path.unlink()
    run(place, said.append)
    assert any("8 blocks were made before digests were kept, so they are taken on trust" in line for line in said)
    assert content(place) == content(finished)
    assert any("on trust" in line for line in json.loads((place / "a.json").read_text())["warnings"])
    code, out = told(capsys, place)
    assert code == 0 and "made before digests were kept" in out, out
