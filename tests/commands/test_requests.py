"""Which files belong together: globs, patterns, folders of volumes, and tables whose bad rows are named."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from maeref_jax.commands.requests import Request, expand, fill_in, read_table, stem_of, with_masks
from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import create_volume


def test_stems_and_patterns():
    assert [stem_of(p) for p in ("x/a.ome.tif", "a.tif[0:8]", "a.b.TIFF", "a.zarr", "a")] == [
        *["a", "a", "a.b", "a", "a"]
    ]
    assert fill_in("{stem}_e.tif", "entropy", "x/a.tif", True) == "x/a_e.tif"
    assert fill_in("y/{stem}.tif[0:3]", "entropy", "x/a.tif", True) == "y/a.tif[0:3]"
    assert fill_in("e.tif", "entropy", "x/a.tif", False) == "e.tif"
    others = ("x/a.h5:/volumes/raw[0:2]", "a.precomputed", "gs://b/a.ome.zarr", "x/a.n5")
    assert [stem_of(p) for p in others] == ["a"] * 4
    for pattern, path, expected in (
        ("{stem}_e.h5:/labels/e", "x/a.h5:/raw[0:2]", "x/a_e.h5:/labels/e"),
        ("./{stem}_e.h5:/labels/e", "x/a.h5:/raw", "./a_e.h5:/labels/e"),
        ("{stem}.zarr", "gs://b/x/a.zarr", "gs://b/x/a.zarr"),
        ("gs://b/{stem}.zarr", "x/a.tif", "gs://b/a.zarr"),
    ):
        assert fill_in(pattern, "entropy", path, True) == expected


def test_globs_keep_their_slices(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("stacks").mkdir()
    for stem in "abc":
        Path(f"stacks/{stem}.tif").touch()
    assert expand(("stacks/?.tif[0:2]",)) == [f"stacks/{stem}.tif[0:2]" for stem in "abc"]
    assert expand(("stacks/a.tif[0:2]", "nowhere.tif")) == ["stacks/a.tif[0:2]", "nowhere.tif"]
    Path("stacks/b.h5").touch()
    assert expand(("stacks/*.h5:/raw[0:2]",)) == ["stacks/b.h5:/raw[0:2]"]
    assert expand(("s3://bucket/a*.zarr",)) == ["s3://bucket/a*.zarr"], "a URL cannot be listed"
    Path("odd[ab].tif").touch()
    assert expand(("odd[ab].tif",)) == ["odd[ab].tif"], "a file of that very name is no glob"
    with pytest.raises(BadInput, match=r"slice 3 alone is written \[3:4\]"):
        expand(("stacks/a.tif[3]",))
    with pytest.raises(BadInput, match="no file matches"):
        expand(("stacks/*.png",))


def test_a_folder_of_volumes_is_all_of_them_and_one_of_slices_is_one(tmp_path):
    for name in ("many/b.npy", "many/a.zarr", "many/.hidden.npy"):
        (tmp_path / "many").mkdir(exist_ok=True)
        create_volume(tmp_path / name, (1, 4, 4), "uint8")
    (tmp_path / "many" / "notes.txt").touch()
    assert expand((str(tmp_path / "many"),)) == [str(tmp_path / "many" / name) for name in ("a.zarr", "b.npy")]
    slices = tmp_path / "slices"
    slices.mkdir()
    for z in range(3):
        tifffile.imwrite(slices / f"s{z}.tif", np.zeros((4, 4), np.uint8))
    create_volume(slices / "beside.npy", (1, 4, 4), "uint8")
    (tmp_path / "empty").mkdir()
    for unchanged in (slices, tmp_path / "many" / "a.zarr", tmp_path / "empty"):
        assert expand((str(unchanged),)) == [str(unchanged)]


def table(folder, *lines, encoding="utf-8"):
    (folder / "t.csv").write_text("\n".join(lines), encoding=encoding)
    return folder / "t.csv"


def test_rows_are_requests_with_paths_beside_the_table(tmp_path):
    given = table(
        tmp_path,
        "image,labels,entropy,hidden,probabilities,stem,axes,voxel_size_nm",
        'a.tif[0:8],x/a.h5:/labels,a_e.tif,,,,ZYX,"45,4.6,4.6"',
        ",b.tif,,painted.tif,,other, ,45;4.6;4.6",
        "",
        "/far/c.tif,,,,p1.npz;p2.npz,,,",
        "s3://bucket/d.zarr,,,,https://host/p.zarr,,,",
        encoding="utf-8-sig",
    )
    requests, wrong = read_table(given, ensemble=False)
    here, size = str(tmp_path), (45.0, 4.6, 4.6)
    assert not wrong and requests == [
        Request(
            "a",
            {"image": f"{here}/a.tif[0:8]", "labels": f"{here}/x/a.h5:/labels", "entropy": f"{here}/a_e.tif"},
            "ZYX",
            size,
        ),
        Request("other", {"labels": f"{here}/b.tif", "hidden": f"{here}/painted.tif"}, "", size),
        Request("c", {"image": "/far/c.tif", "probabilities": (f"{here}/p1.npz", f"{here}/p2.npz")}),
        Request("d", {"image": "s3://bucket/d.zarr", "probabilities": ("https://host/p.zarr",)}),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.tif,,,,,", "expected one of ensemble \\(with image\\)"),
        ("a.tif,b.tif,,,,", "labels needs entropy, hidden or both beside it, found none"),
        (",,e.tif,p.npz,,", "entropy belongs to labels"),
        (",b.tif,e.tif,p.npz,,", "found labels and probabilities"),
        ("a.tif,b.tif,e.tif", "number of cells"),
        ("a.tif,b.tif,e.tif,,,,,,", "number of cells"),
        (',b.tif,e.tif,,,"4,5"', "three positive numbers"),
        (",b.tif,e.tif,,,1;2;-3", "three positive numbers"),
        (",b.tif,e.tif,,x/y,", "is no file name"),
        (",b.tif,e.tif,,..,", "is no file name"),
        (",good.tif,e.tif,,,", "of line 2, is called 'good' too"),
    ],
)
def test_a_bad_row_is_named_and_the_others_stay(tmp_path, row, message):
    given = table(tmp_path, "image,labels,entropy,probabilities,stem,voxel_size_nm", ",good.tif,e.tif,,,", row)
    requests, wrong = read_table(given, ensemble=False)
    assert [request.stem for request in requests] == ["good"] and list(wrong) == ["t.csv line 3"]
    with pytest.raises(BadInput, match=message):
        raise BadInput(wrong["t.csv line 3"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["image;labels", "a;b"], "separate them by commas"),
        (["image,lables", "a,b"], "has the columns image, lables"),
        (["image,image", "a,b"], "each once"),
        ([""], "has the columns none"),
        (["image,labels"], "has no rows"),
        (["image", '"a'], "is no CSV file"),
    ],
)
def test_what_is_no_table(tmp_path, lines, message):
    with pytest.raises(BadInput, match=message):
        read_table(table(tmp_path, *lines), ensemble=True)
    with pytest.raises(BadInput, match="no such file"):
        read_table(tmp_path / "none.csv", ensemble=True)


def test_masks_of_what_is_worked_on_are_found_by_what_an_input_is_called():
    given = [
        Request("a", {"image": "stacks/a.tif"}),
        Request("case", {"image": "images/case_0000.tif", "probabilities": ("pred/case.npz",)}),
        Request("b", {"labels": "b.tif", "within": "own.tif"}),
    ]
    found = [one.paths["within"] for one in with_masks(given, "{stem}_m.tif")]
    assert found == ["stacks/a_m.tif", "pred/case_m.tif", "own.tif"]
    assert [one.paths["within"] for one in with_masks(given, "masks/{stem}.tif")][:2] == [
        "masks/a.tif",
        "masks/case.tif",
    ]
    assert [one.paths["within"] for one in with_masks(given, "auto")] == ["auto", "auto", "own.tif"]
    assert with_masks(given, "") == given and with_masks(given[:1], "m.tif")[0].paths["within"] == "m.tif"
    with pytest.raises(BadInput, match=r"--within m\.tif: with several inputs a name pattern is needed"):
        with_masks(given, "m.tif")


def test_masks_in_a_table_lie_beside_it_and_may_be_made_first(tmp_path):
    given = table(tmp_path, "image,within", "a.tif,masks/a.ome.zarr", "b.tif,auto", "c.tif,")
    requests, wrong = read_table(given, ensemble=True)
    found = [request.paths.get("within") for request in requests]
    assert not wrong and found == [f"{tmp_path}/masks/a.ome.zarr", "auto", None]
