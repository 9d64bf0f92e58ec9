"""The table of objects of a volume that was drawn by hand, and that nothing in it depends on blocks."""

import csv
from pathlib import Path

import numpy as np
import pytest
from fakes import NAMES, SCHEME, image_job, label_job, refiner, segmenter, settings

from maeref_jax.audit import objects, shapes
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import refining
from maeref_jax.results.maps import create_arrays
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import whole

SIZE = (30.0, 5.0, 4.0)
SHAPE = (9, 30, 50)


def drawn():
    """Two mitochondria: a bar in z 2 to 6 with two cristae, and a block at the border; and a speck of three voxels."""
    initial = np.zeros(SHAPE, np.uint8)
    initial[2:7, 4:11, 5:45] = 1
    initial[3:6, 5:10, 6:44] = 3
    initial[4, 6:9, 10:13] = initial[4, 6:9, 30:33] = 2
    initial[0:3, 20:26, 38:48] = 3
    initial[8, 15, 3:6] = 3
    refined = initial.copy()
    refined[2:7, 4:11, 20:25] = 0  # the bar falls apart
    hidden = np.zeros(SHAPE, np.uint8)
    hidden[:, :, 20:25] = hidden[:, 20:26, 40:48] = 1
    confidence = np.where(hidden, 51, 0).astype(np.uint8)
    return {"initial": initial, "refined": refined, "hidden": hidden, "confidence": confidence}


def measured(folder: Path, block=(4, 16, 16), size=SIZE, scheme=SCHEME, only=None, said=None, **changes):
    folder.mkdir(exist_ok=True)
    output = Output(folder, "a")
    output.progress.mkdir(parents=True)
    content = drawn()
    content["was"] = np.where(content["initial"] != content["refined"], content["initial"] + 1, 0).astype(np.uint16)
    roles = [role for role in content if only is None or role in only]
    numbered = [f"objects_{name}" for name in ("initial", "refined") if name in roles]
    arrays = create_arrays(output, [*roles, *numbered], SHAPE, block, size, scheme, "0.5")
    for role in roles:
        arrays[role].write(whole(SHAPE), content[role])
    chosen = {"classes": (), "cristae": None, "smallest_vx": 10, "flag": 0.5} | changes
    rules = objects.rules(scheme, **chosen)
    say = (lambda line: None) if said is None else said.append
    summary = objects.measure_objects(output, arrays, block, size, scheme["names"], rules, say)
    with output.objects.open(encoding="utf-8") as file:
        return output, summary, list(csv.DictReader(file))


def test_rows_by_hand(tmp_path):
    output, summary, rows = measured(tmp_path)
    assert [(row["map"], row["object"]) for row in rows] == [
        *[("initial", "1"), ("initial", "2"), ("refined", "1"), ("refined", "2"), ("refined", "3")]
    ]
    assert summary["initial"] == {"objects": 2, "flagged": 1, "too_small": 1, "too_small_voxels": 3}
    block, bar = rows[0], rows[1]
    one = 30 * 5 * 4
    assert int(bar["voxels"]) == 5 * 7 * 40 and float(bar["volume_nm3"]) == 1400 * one
    assert float(bar["cristae_nm3"]) == 18 * one and bar["cristae_count"] == "2"
    assert float(bar["intermembrane_nm3"]) == (1400 - 3 * 5 * 38) * one
    assert float(bar["skeleton_nm"]) == pytest.approx(36 * 4, abs=20)
    assert (bar["branches"], bar["end_points"], bar["cycles"]) == ("1", "2", "0")
    assert float(bar["hidden_share"]) == 5 / 40 == float(bar["changed_share"]) and bar["flag"] == ""
    assert float(bar["confidence"]) == pytest.approx(0.2)
    assert [bar[f"{end}_{axis}"] for end in ("start", "stop") for axis in "zyx"] == ["2", "4", "5", "7", "11", "45"]
    assert bar["cut"] == "0" and block["cut"] == "1"
    assert float(block["hidden_share"]) == 0.8 and block["flag"] == "hidden" and block["changed_share"] == "0"
    assert sum(int(row["voxels"]) for row in rows[3:]) == 5 * 7 * 35
    *_, speck = (row for row in measured(tmp_path / "all", smallest_vx=1)[2] if row["map"] == "initial")
    assert speck["voxels"] == "3" and speck["cut"] == "1", "the last slice is a face, too"
    ids = open_volume(tmp_path / "a.ome.zarr" / "labels" / "objects_initial").read(whole(SHAPE))
    assert (ids[2:7, 4:11, 5:45] == 2).all() and (ids[8] == 0).all()
    trees = sorted(path.name for path in output.skeletons.iterdir())
    assert trees == [f"{row['map']}_{int(row['object']):05}.swc" for row in rows]
    points = np.loadtxt(output.skeletons / "initial_00002.swc")
    assert points[:, 2].min() > 5 * 4 and points[:, 2].max() < 45 * 4 and points[:, 4] == pytest.approx(4 * 30)


def test_the_table_does_not_depend_on_blocks(tmp_path):
    tables = [measured(tmp_path / str(i), block)[1:] for i, block in enumerate([(2, 8, 12), (9, 30, 50), (1, 30, 16)])]
    assert tables[0] == tables[1] == tables[2]


def test_without_voxel_size_refiner_or_a_scheme_of_mitochondria(tmp_path):
    said = []
    output, _, rows = measured(tmp_path / "1", size=None, said=said)
    assert "no voxel size" in said[0] and not list(output.skeletons.iterdir())
    assert rows[1]["volume_nm3"] == rows[1]["skeleton_nm"] == "" and rows[1]["branches"] == "1"
    _, summary, rows = measured(tmp_path / "2", only=("initial", "hidden"))
    assert list(summary) == ["initial"] and rows[0]["confidence"] == "" and rows[0]["hidden_share"] == "0.8"
    other = SCHEME | {"names": ["outside", "a", "b", "c"], "ambiguous": -1}
    output, _, rows = measured(tmp_path / "3", scheme=other)
    assert "skeleton_nm" not in rows[0] and "cristae_count" not in rows[0] and float(rows[1]["b_nm3"]) > 0
    assert not list(output.skeletons.iterdir())
    binary = SCHEME | {"names": ["background", "mitochondria", "ambiguous"], "ambiguous": 2}
    assert objects.rules(binary, (), None, 1, 0.5).shaped, "one class beside background is one thing, with a shape"
    _, _, rows = measured(tmp_path / "4", scheme=other, classes=(2,), cristae=2, smallest_vx=1)
    assert [row["voxels"] for row in rows] == ["9", "9"] * 2 and rows[0]["cristae_count"] == "1"


def test_an_object_too_large_for_a_skeleton_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shapes, "LARGEST_VX", 1000)
    _, _, rows = measured(tmp_path)
    assert "too large" in rows[1]["note"] and rows[1]["skeleton_nm"] == "" and rows[1]["voxels"] == "1400"
    assert rows[0]["note"] == "" and rows[0]["skeleton_nm"] != ""


@pytest.mark.parametrize(
    "bad", [{"classes": (0, 1)}, {"classes": (9,)}, {"cristae": 7}, {"smallest_vx": 0}, {"flag": 2}]
)
def test_bad_rules(bad):
    with pytest.raises(BadInput, match="expected"):
        objects.rules(SCHEME, **({"classes": (), "cristae": None, "smallest_vx": 1, "flag": 0.5} | bad))


def test_no_name_of_a_class_is_a_formula_in_the_table(tmp_path):
    evil = ("=cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1")
    names = tuple(evil[i % 4] if i else "background" for i in range(len(SCHEME["names"])))
    output, _, rows = measured(tmp_path, scheme=SCHEME | {"names": names})
    with output.objects.open(encoding="utf-8") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=cmd|") for cell in cells)
    for cell in cells:
        assert cell[:1] not in tuple("=+-@\t\r") or np.isfinite(float(cell)), "a number, or harmless"
    assert all(float(row["volume_nm3"]) > 0 for row in rows), "numbers stay numbers"


def test_a_class_called_volume_is_not_the_volume_of_the_object(tmp_path):
    names = ("background", "volume", *SCHEME["names"][2:])
    _, _, rows = measured(tmp_path, scheme=SCHEME | {"names": names})
    _, _, plain = measured(tmp_path / "plain")
    assert [row["volume_nm3"] for row in rows] == [row["volume_nm3"] for row in plain]
    assert [row["class_volume_nm3"] for row in rows] == [row[f"{SCHEME['names'][1]}_nm3"] for row in plain]


def test_a_run_writes_them_removes_them_and_refuses_files_of_others(tmp_path):
    asked = settings(objects=True, smallest_object_vx=2)
    summary = refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), asked)
    with (tmp_path / "a_objects.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert summary["objects"]["refined"]["objects"] == sum(row["map"] == "refined" for row in rows) > 0
    assert len(list((tmp_path / "a_skeletons").iterdir())) == len(rows)
    assert set(rows[0]) > {f"{name}_nm3" for name in NAMES[1:]}
    again = asked._replace(objects=False, overwrite=True)
    refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), again)
    assert not (tmp_path / "a_objects.csv").exists() and not (tmp_path / "a_skeletons").exists()
    (tmp_path / "b" / "a_skeletons").mkdir(parents=True)
    with pytest.raises(BadInput, match="a_skeletons is there already"):
        refining.refine_volume(image_job(tmp_path / "b"), segmenter(), refiner(), asked)
    with pytest.raises(BadInput, match="expected some of: 1 intermembrane"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), again._replace(object_classes=(0,)))


def test_killed_before_the_sidecar_they_are_made_again(tmp_path):
    asked = settings(objects=True, smallest_object_vx=1)
    refining.refine_volume(label_job(tmp_path), None, refiner(), asked)
    table = (tmp_path / "a_objects.csv").read_bytes()
    (tmp_path / "a.json").unlink()
    (tmp_path / ".a_skeletons.1.partial").mkdir()
    refining.refine_volume(label_job(tmp_path), None, refiner(), asked)
    assert (tmp_path / "a_objects.csv").read_bytes() == table
    assert not list(tmp_path.glob(".a_skeletons*")), "a leftover stays"
