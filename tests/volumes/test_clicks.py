"""volumes/clicks.py: what a person or napari wrote becomes labels where it was meant, or is refused in one line."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes import clicks
from maeref_jax.volumes.class_scheme import scheme_of_names
from maeref_jax.volumes.dataset import Given, clicked_labels, mapped_labels
from maeref_jax.volumes.volume import array_volume, open_volume, write_tiff

SCHEME = scheme_of_names(("background", "mitochondria", "Golgi body"))
IMAGE = array_volume(np.zeros((4, 10, 12), np.uint8), "image.tif")
DATA = {"label_map": (), "shell_class": -1, "shell_vx": 0.0}


@pytest.fixture
def save(tmp_path):
    def write(text, name="clicks.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def read(path, image=IMAGE, scheme=SCHEME):
    said = []
    return clicks.labels_of_clicks(path, image, scheme, said.append), said


def known(labels):
    return {tuple(map(int, place)): int(labels[tuple(place)]) for place in np.argwhere(labels >= 0)}


def test_every_click_is_a_voxel_and_the_rest_is_unknown(save):
    path = save("\ufeffclass, x,y,Z\n1,3,2,0\nbackground,4,2,0\n\nGOLGI BODY,11,9,3\n2.0,0,0,1\n1,3,2,0\n")
    labels, said = read(path)
    assert labels.dtype == np.int16 and labels.shape == IMAGE.shape
    assert known(labels) == {(0, 2, 3): 1, (0, 2, 4): 0, (3, 9, 11): 2, (1, 0, 0): 2}
    counted = "background 1, mitochondria 2, Golgi body 2"
    assert said == [f"{path}: 5 clicks (columns Z, y, x, class): {counted}"]


@pytest.mark.parametrize("feature", ["class", "Label", "organelle"])
def test_a_points_layer_of_napari_with_decimals_and_a_feature(save, feature):
    text = f"index,axis-0,axis-1,axis-2,{feature}\n0.0,1.4,2.5,3.49,1.0\n1.0,2.6,-0.4,11.4,0.0\n"
    labels, said = read(save(text))
    assert known(labels) == {(1, 3, 3): 1, (3, 0, 11): 0}, "voxel 2 reaches from 1.5 to 2.5"
    assert f"(columns axis-0, axis-1, axis-2, {feature})" in said[0]


def test_a_plane_needs_no_z(save):
    plane = array_volume(np.zeros((1, 10, 12)), "plane.tif")
    assert known(read(save("index,axis-0,axis-1,class\n0,4,5,1\n"), plane)[0]) == {(0, 4, 5): 1}
    with pytest.raises(BadInput, match=r"and no z, but image.tif has 4 slices; add a column z"):
        read(save("y,x,class\n4,5,1\n"))


def test_clicks_on_a_whole_stack_serve_its_parts(save):
    path = save("z,y,x,class\n20,1,1,1\n23,2,2,0\n24,3,3,2\n3,4,4,1\n")
    labels, said = read(f"{path}[20:24]")
    assert known(labels) == {(0, 1, 1): 1, (3, 2, 2): 0}
    assert said[1] == f"{path}[20:24]: the other 2 of 4 clicks lie in other slices"
    assert known(read(f"{path}[3:27:7]")[0]) == {(0, 4, 4): 1, (3, 3, 3): 2}, "slices 3, 10, 17, 24"
    assert known(read(f"{path}[21:]")[0]) == {(2, 2, 2): 0, (3, 3, 3): 2}
    with pytest.raises(BadInput, match=r"no click lies in the slices \[8:12\]"):
        read(f"{path}[8:12]")
    with pytest.raises(
        BadInput, match=r"\[20:30\] names 10 slices, but image.tif has 4; give clicks and image the same"
    ):
        read(f"{path}[20:30]")
    with pytest.raises(BadInput, match=r"of i.tif\[0:4\] of .*; clicks on the whole .*, .*clicks.csv\[0:4\]"):
        read(path, array_volume(np.zeros((4, 10, 12)), "i.tif[0:4]"))
    with pytest.raises(
        BadInput, match=r"1 of 2 clicks lies outside .* the first is in line 4, \(z, y, x\) = \(5, 3, 3\)"
    ):
        read(f"{save('z,y,x,class' + chr(10) + '9,1,1,1' + chr(10) + '20,1,1,0' + chr(10) + '24,3,3,0')}[19:]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "clicks.csv is empty, expected a first line z,y,x,class"),
        ("z,y,x,class\n", "has no clicks below its first line"),
        ("z,y,x\n1,2,3\n", "a column named class, and none is there"),
        ("z,y,x,a,b\n1,2,3,1,1\n", "a column named class, and a and b could be it"),
        ("z,x,class\n1,2,1\n", "has the columns z, x, class in its first line, expected a first line z,y,x,class"),
        ("z;y;x;class\n1;2;3;1\n", "separate them by commas"),
        ("X,Y,Slice,class\n1,2,3,1\n", "and no z, but image.tif has 4 slices"),
        (" ,X,Slice,class\n1,2,3,1\n", "ImageJ's Slice counts from 1"),
        ("z,y,x,Z,class\n1,2,3,1,1\n", "one of them twice"),
        ("index,axis-0,axis-1,axis-2,axis-3,class\n0,0,1,2,3,1\n", "four axes"),
        ("z,y,x,class\n1,2,3\n", "line 2: 3 cells, but the first line has 4"),
        ("z,y,x,class\n1,2,3,1\n1,two,3,1\n", "line 3: y is 'two', expected a voxel"),
        ("z,y,x,class\n1,nan,3,1\n", "line 2: y is 'nan'"),
        ("z,y,x,class\n1,2,3,\n", r"line 2: the class is missing \(column class\)"),
        (
            "z,y,x,class\n1,2,3,0\n4,2,3,1\n1,2,99,1\n",
            r"2 of 3 clicks lie outside of image.tif of shape \(4, 10, 12\); ",
        ),
        ("z,y,x,class\n1,2,3,0\n-1,2,3,1\n", r"the first is in line 3, \(z, y, x\) = \(-1, 2, 3\)"),
        ("z,y,x,class\n1,2,1e300,0\n", "1 of 1 click lies outside"),
        (
            "z,y,x,class\n1,2,3,0\n1,2,4,7\n1,2,5,nucleus\n",
            r"2 clicks of class '7', and of 1 more such, the first in line 3; expected one of 0 background, 1 m",
        ),
        ("z,y,x,class\n1,2,3,1.5\n", "1 click of class '1.5', the first in line 2"),
        ("z,y,x,class\n1,2,3,255\n", "1 click of class '255'"),
        (
            "z,y,x,class\n1,2,3,0\n0,0,0,1\n1,2,3,1\n0,0,0,2\n",
            r"is said to be \w+ \(\d\) in line \d and .* in line \d, and so is 1 more; keep one of them",
        ),
        (b"z,y,x,class\n1,2,3,\xff\n", "is no CSV file in UTF-8"),
        ('z,y,x,class\n1,2,3,"1\n', "is no CSV file in UTF-8"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(save, text, message):
    with pytest.raises(BadInput, match=message) as found:
        read(save(text))
    assert "\n" not in str(found.value)


def test_other_files_and_other_places_of_clicks_are_named(save, tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read(str(tmp_path / "none.csv"))
    with pytest.raises(BadInput, match="clicks are labels to train on: maeref train --labels"):
        open_volume(save("z,y,x,class\n1,2,3,1\n"))
    with pytest.raises(BadInput, match=r"a shell is derived of whole objects.*--config\.data\.shell_class=-1"):
        clicked_labels("clicks.csv", IMAGE, {**DATA, "shell_class": 1}, SCHEME)
    assert clicks.is_clicks("a/b.CSV[2:4]") and not clicks.is_clicks("b.tif[2:4]")


def test_what_is_written_is_what_is_read(tmp_path):
    places, classes = np.array([[0, 1, 2], [3, 9, 11]]), ["Golgi body", "0"]
    clicks.write_clicks(tmp_path / "c.csv", places, classes)
    assert (tmp_path / "c.csv").read_text() == "z,y,x,class\n0,1,2,Golgi body\n3,9,11,0\n"
    assert known(read(tmp_path / "c.csv")[0]) == {(0, 1, 2): 2, (3, 9, 11): 0}


@pytest.fixture
def coarse(tmp_path):
    """coarse(array, voxel size): a volume of 40, 10, 10 nm that is read in voxels of another size."""

    def opened(array, size):
        write_tiff(tmp_path / "volume.tif", array, (40.0, 10.0, 10.0))
        return Given(at_voxel_size_nm=size).open(tmp_path / "volume.tif", "labels" if array.any() else "image")

    return opened


def test_at_another_voxel_size_clicks_lie_where_they_were_made(save, coarse):
    path = save("z,y,x,class\n0,2,3,1\n0,3,3,1\n0,3,2,0\n1,8,8,2\n3,9,11,0\n2,0,0,1\n2,1,1,0\n")
    labels, said = read(path, coarse(np.zeros((4, 10, 12), np.uint8), (40.0, 20.0, 20.0)))
    assert labels.shape == (4, 5, 6)
    assert known(labels) == {(0, 1, 1): 1, (1, 4, 4): 2, (3, 4, 5): 0}, "the most frequent class, none of several"
    assert (
        said[1]
        == f"{path}: at 40 x 20 x 20 nm its labels are 3 voxels; 1 more are left out, where several classes meet"
    )
    labels, _ = read(path, coarse(np.zeros((4, 10, 12), np.uint8), (40.0, 5.0, 5.0)))
    assert len(known(labels)) == 7 and labels[0, 5, 7] == 1 and labels[3, 19, 23] == 0


@pytest.mark.parametrize(("dtype", "nothing"), [(np.uint8, 255), (np.uint16, 255), (np.int16, -1), (np.float32, -1)])
def test_scribbles_in_files_of_any_type_are_labels_where_something_was_said(tmp_path, dtype, nothing):
    painted = np.full((2, 20, 20), nothing, dtype)
    painted[0, 3, 2:9], painted[1, 10, 3:5], painted[1, 12, 3:5] = 1, 0, 2
    labels = mapped_labels(array_volume(painted, "painted.tif"), DATA, SCHEME, [].append)
    assert (labels >= 0).sum() == 11 and (labels[0, 3, 2:9] == 1).all() and (labels[1, [10, 12], 3] == [0, 2]).all()


def test_scribbles_are_not_outvoted_in_larger_voxels_by_what_is_unknown(coarse):
    painted = np.full((4, 40, 40), 255, np.uint8)
    painted[1, 5, 2:12], painted[2, 9, 9], painted[3, 0, 0] = 1, 0, 2
    labels = mapped_labels(coarse(painted, (40.0, 20.0, 20.0)), DATA, SCHEME, [].append)
    assert known(labels) == {**{(1, 2, x): 1 for x in range(1, 6)}, (2, 4, 4): 0, (3, 0, 0): 2}
    labels = mapped_labels(coarse(painted, (40.0, 5.0, 5.0)), DATA, SCHEME, [].append)
    assert len(known(labels)) == 4 * 12, "in smaller voxels a scribble is as wide as it was"
    # Along z smaller and along y and x larger: as long as it was there, and not outvoted here.
    labels = mapped_labels(coarse(painted, (20.0, 20.0, 20.0)), DATA, SCHEME, [].append)
    wanted = {(z, 2, x): 1 for z in (2, 3) for x in range(1, 6)}
    assert known(labels) == {**wanted, (4, 4, 4): 0, (5, 4, 4): 0, (6, 0, 0): 2, (7, 0, 0): 2}
    labels = mapped_labels(coarse(painted, (36.0, 20.0, 20.0)), DATA, SCHEME, [].append)
    assert {z for z, *_ in known(labels)} == {1, 2, 3, 4} and (labels[1, 2, 1:6] == 1).all()
    dense = np.where(np.arange(40)[:, None] < 21, np.uint8(0), painted)
    dense[:, 4:, 5:8], dense[:, 10:14, 30:34] = 1, 2
    labels = mapped_labels(coarse(dense, (40.0, 20.0, 20.0)), DATA, SCHEME, [].append)
    assert (labels[:, 10, 10:] == -1).all(), "what was labelled as a whole goes by vote, as ever"
