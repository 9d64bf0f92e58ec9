"""volumes/label_ids.py: what has one reading is taken so and said; else a flag that settles it is asked for."""

import re

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.volumes import label_ids
from maeref_jax.volumes.class_scheme import scheme_of_names
from maeref_jax.volumes.dataset import mapped_labels
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole

BINARY = scheme_of_names(("background", "mitochondria"))
UNSURE = scheme_of_names(("background", "mitochondria", "ambiguous"))
FOUR = scheme_of_names(("background", "intermembrane", "cristae", "matrix"))
FIVE = scheme_of_names((*FOUR["names"], "ambiguous"))
FEW, MANY, ALL = [BINARY, UNSURE], [FOUR, FIVE], [BINARY, UNSURE, FOUR, FIVE]


def stored(ids, dtype=np.int32):
    return array_volume(np.array(ids).astype(dtype).reshape(1, 1, -1), "mask.tif")


def read(ids, scheme, label_map=(), dtype=np.int32):
    """(classes, what was said)"""
    volume = stored(ids, dtype)
    reading = label_ids.understand(volume, scheme, label_map)
    found = label_ids.as_classes(volume, reading)
    classes = found.read(whole(volume.shape))
    assert classes.dtype == found.dtype == np.int16
    return classes.ravel().tolist(), " ".join(reading.notes)


@pytest.mark.parametrize(
    ("ids", "schemes", "classes", "said"),
    [
        ([0, 255, 255], FEW, [0, 1, 1], "mask.tif holds 0 and 255: 255 is taken as class 1, mitochondria"),
        ([255], FEW, [1], "255 is taken as class 1"),
        ([0, 100], FEW, [0, 1], "holds 0 and 100: 100 is taken as class 1, mitochondria"),
        ([0, 1], FEW, [0, 1], ""),
        ([0, 1, -1], FEW, [0, 1, -1], "mask.tif: -1 is taken as unknown"),
        ([0, 255, -1], FEW, [0, 1, -1], "mask.tif: -1 is taken as unknown"),
        ([1, 2, -1], [BINARY], [0, 1, -1], "mask.tif: -1 is taken as unknown"),
        ([0, 1, 255], FEW, [0, 1, -1], "mask.tif: 255 is taken as unknown"),
        ([0, 2], [UNSURE], [0, 2], ""),
        ([1, 2], [BINARY], [0, 1], "so 1 is taken as class 0, background, 2 as class 1, mitochondria"),
        ([1, 2, 255], [BINARY], [0, 1, -1], "255 is taken as unknown"),
        ([5, 1, 2, 3, 4], [FIVE], [4, 0, 1, 2, 3], "ids count from 1"),
        ([0, 1, 3], MANY, [0, 1, 3], ""),
        ([0, 3], MANY, [0, 3], ""),
        ([0, 1, 3, 255, -1], MANY, [0, 1, 3, -1, -1], "255 is taken as unknown"),
        ([0], ALL, [0], ""),
    ],
)  # fmt: skip
def test_one_reading_is_taken_and_said_where_a_user_may_expect_another(ids, schemes, classes, said):
    for scheme in schemes:
        assert read(ids, scheme)[0] == classes
        assert said in read(ids, scheme)[1] and bool(said) == bool(read(ids, scheme)[1])


@pytest.mark.parametrize(
    ("ids", "schemes", "flag", "settled"),
    [
        ([0, 255], MANY, "--label_map=255:1", [0, 1]),
        ([0, 255], MANY, "--label_map=255:-1", [0, -1]),
        ([0, -1], FEW, "--label_map=-1:1", [0, 1]),  # 0 and 255 in signed bytes
        ([0, -1], ALL, "--label_map=-1:-1", [0, -1]),
        ([0, 1], [FIVE], "--label_map=1:3", [0, 3]),
        ([0, 1], MANY, "--label_map=identity", [0, 1]),
        ([0, 1, 255], MANY, "--label_map=identity", [0, 1, -1]),
        ([1, 2, 3], MANY, "--label_map=1:0,2:1,3:2", [0, 1, 2]),
        ([1, 2, 3], MANY, "--label_map=identity", [1, 2, 3]),
        ([1], FEW, "--label_map=identity", [1]),
        ([1], FEW, "--label_map=1:0", [0]),
        ([0, 1, 2, 255], [BINARY], "--label_map=instances", [0, 1, 1, 1]),
        ([0, 1, 2, 3, 7], FEW, "--label_map=instances", [0, 1, 1, 1, 1]),
        ([0, *range(300)], FEW, "--label_map=instances", [0, 0, *[1] * 299]),
    ],
)  # fmt: skip
def test_several_readings_are_refused_with_flags_that_settle_them(ids, schemes, flag, settled):
    for scheme in schemes:
        with pytest.raises(BadInput, match=re.escape("mask.tif (int32) holds the labels")) as refused:
            read(ids, scheme)
        assert re.search(rf"{re.escape(flag)}(?![\w,:])", str(refused.value)), str(refused.value)
        assert read(ids, scheme, flag.partition("=")[2].split(","))[0] == settled


def test_a_mask_of_0_and_minus_1_is_asked_about_whatever_map_does_not_name_minus_1():
    both = r"holds the labels -1 and 0, a mask of 0 and 255 stored as signed bytes, or background and unknown; .*"
    for label_map, known in (((), ""), (label_ids.INSTANCES, ""), (((0, 0), (255, 1)), "0:0,255:1,")):
        flags = rf"e.g. --label_map={known}-1:1; where it is unknown: --label_map={known}-1:-1$"
        with pytest.raises(BadInput, match=both + flags):
            read([0, -1], BINARY, label_map, np.int8)
    assert read([0, -1], BINARY, ((-1, 1),), np.int8) == ([0, 1], "")
    assert read([0, -1], BINARY, label_ids.IDENTITY, np.int8) == ([0, -1], "mask.tif: -1 is taken as unknown")
    assert read([0, 3, -1], BINARY, label_ids.INSTANCES) == ([0, 1, -1], "mask.tif: -1 is taken as unknown")
    with pytest.raises(BadInput, match=r"where -1 is foreground, 255 stored as signed bytes: --label_map=-1:1$"):
        read([-1, -1], BINARY, (), np.int8)
    assert read([-1, -1], BINARY, ((-1, 1),), np.int8)[0] == [1, 1]


@pytest.mark.parametrize("label_map", [(), label_ids.IDENTITY, ((7, -1),), ((1, 1),)])
def test_the_flag_that_a_message_prints_is_the_whole_one(label_map):
    with pytest.raises(BadInput) as refused:
        read([0, 1, 7], BINARY, label_map)
    (flag,) = re.findall(r"--label_map=([\w:,-]*CLASS)", str(refused.value))
    assert read([0, 1, 7], BINARY, flag.replace("CLASS", "1").split(","))[0][1] == 1, "and it is not refused again"


def test_ids_beyond_the_classes_are_to_be_named_one_by_one():
    with pytest.raises(BadInput, match=r"--label_map=205:CLASS,420:CLASS,820:CLASS, every CLASS one of 0 background"):
        read([0, 205, 420, 820], FIVE)
    assert read([0, 205, 420, 820], FIVE, ("205:1", "420:2", "820:3")) == ([0, 1, 2, 3], "")
    with pytest.raises(BadInput, match="and no voxel is 0; --label_map=1:CLASS,2:CLASS,3:CLASS,…, every CLASS one of"):
        read([1, 2, 3, 7], BINARY)


@pytest.mark.parametrize(
    ("ids", "dtype", "message"),
    [
        ([0, 0.5, 1], np.float32, "holds 0.5; labels are whole numbers .a mask with soft edges"),
        ([0, 1.5, 7], np.float32, "holds 1.5; labels are whole numbers$"),
        (
            [0, 1 - 6e-8, 1],
            np.float32,
            "holds 0.99999994; labels are whole numbers; they almost are: is there a scaling",
        ),
        ([0, 1 - 1e-10, 2 + 1e-9], np.float64, "holds 0.9999999999; labels are whole numbers; they almost are"),
        ([0, -2, 1], np.int8, r"holds the labels \[-2\], expected 0 or more, and -1 for unknown"),
        ([-1, -1], np.int16, "holds no known label: all voxels are unknown"),
        ([0, np.nan], np.float32, "holds nan at voxel"),
    ],
)
def test_what_is_no_label_is_refused_in_every_scheme(ids, dtype, message):
    for scheme in ALL:
        for label_map in ((), label_ids.IDENTITY):
            with pytest.raises(BadInput, match=message):
                read(ids, scheme, label_map, dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_whole_numbers_of_a_float_type_are_taken_and_said(dtype):
    classes, said = read([0, 3, 1], FIVE, dtype=dtype)
    assert classes == [0, 3, 1] and f"mask.tif is {np.dtype(dtype)} and holds whole numbers" in said


def test_a_mask_of_one_bit_is_one_of_0_and_1():
    assert read([False, True], BINARY, dtype=bool) == ([0, 1], "")


def test_numbers_that_a_float_could_not_tell_apart_are_told_apart():
    large = 2**60
    assert read([0, large, large + 1], BINARY, ((large, 1), (large + 1, 0)), np.uint64)[0] == [0, 1, 0]


def test_a_map_names_every_id_but_0_and_unknown():
    assert read([0, 7, 255, -1], FOUR, ((7, 2),)) == (
        [0, 2, -1, -1],
        "mask.tif: -1 is taken as unknown mask.tif: 255 is taken as unknown",
    )
    assert read([0, 255], FOUR, ((255, 1), (0, 3)))[0] == [3, 1], "0 means what the map says"
    with pytest.raises(BadInput, match=r"no entry for \[7, 9\]; add it: --label_map=3:1,7:CLASS,9:CLASS"):
        read([0, 7, 9, 3], FOUR, ((3, 1),))
    with pytest.raises(BadInput, match=r"no entry for \[255\]"):
        read([0, 255], BINARY, ((0, 0),))


@pytest.mark.parametrize("label_map", ["255", "a:1", "1:1:1", "instances,1:1", "1:0,1:1", "1:-2", "1:0.5"])
def test_what_is_no_map_is_refused(label_map):
    with pytest.raises(BadInput, match="expected pairs of an id in the file and a class"):
        label_ids.label_map_of(label_map.split(","))


def test_a_map_to_no_class_and_objects_without_a_class_are_refused():
    with pytest.raises(BadInput, match="names class 4, expected one of 0 background, 1 intermembrane"):
        read([0, 1], FOUR, ((1, 4),))
    with pytest.raises(BadInput, match="ids of single objects do not say which"):
        read([0, 1], FOUR, label_ids.INSTANCES)
    with pytest.raises(BadInput, match=r"holds the labels 0 and 7, expected 0 to 3, and -1 or 255 for unknown"):
        read([0, 7], FOUR, label_ids.IDENTITY)


def test_labels_without_background_are_doubted_where_they_were_not_refused():
    assert "no voxel is 0, background" in label_ids.understand(stored([1, 2]), FOUR, label_ids.IDENTITY).doubts[0]
    assert not label_ids.understand(stored([0, 2]), FOUR).doubts
    reading = label_ids.understand(stored([2, 3]), FOUR)  # a piece without background, or counted from 1
    assert reading.label_map == ((2, 2), (3, 3))
    assert "where ids count from 1 (as ilastik's do): --label_map=2:1,3:2" in reading.doubts[0]


def test_what_is_doubted_of_labels_to_learn_from_is_told_as_a_warning():
    said, data = [], {"label_map": (), "shell_class": -1}
    assert mapped_labels(stored([2, 3]), data, FOUR, said.append).ravel().tolist() == [2, 3]
    assert len(said) == 1 and said[0].startswith("warning: ") and "no voxel is 0, background" in said[0]


def test_a_file_is_read_slab_by_slab_and_more_ids_than_can_be_listed_are_objects(monkeypatch):
    monkeypatch.setattr(label_ids, "_SLAB", (1, 4, 4))
    monkeypatch.setattr(label_ids, "_MOST_IDS", 20)
    boxes, ids = [], np.arange(128).reshape(2, 8, 8)

    def part(box):
        boxes.append(box)
        return ids[box.slices]

    volume = Volume("objects.tif", ids.shape, ids.dtype, None, None, None, part)
    with pytest.raises(BadInput, match=r"more than \d+ ids\), beyond the classes .*--label_map=instances"):
        label_ids.understand(volume, BINARY)
    assert len(boxes) == 8 and max(np.prod(box.shape) for box in boxes) == 16
    reading = label_ids.understand(volume, BINARY, label_ids.INSTANCES)
    np.testing.assert_array_equal(label_ids.as_classes(volume, reading).read(whole(ids.shape)), ids > 0)


def test_a_file_that_changes_after_it_was_understood_is_refused_not_misread():
    reading = label_ids.understand(stored([0, 255]), BINARY)
    with pytest.raises(BadInput, match="holds other ids than when it was first read"):
        label_ids.as_classes(stored([0, 7]), reading).read(whole((1, 1, 2)))


def test_the_map_is_part_of_what_an_input_is(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[[0, 255]]] * 2, np.uint8), imagej=True, metadata={"axes": "ZYX"})
    volume = open_volume(tmp_path / "a.tif")
    readings = [label_ids.understand(volume, BINARY, lm) for lm in ((), ((255, -1),), ((255, 0),))]
    views = {label_ids.as_classes(volume, reading).identity()["view"] for reading in readings}
    assert len(views) == 3


@pytest.mark.parametrize(
    ("ids", "hidden"),
    [([0, 1], [0, 1]), ([0, 255], [0, 1]), ([0, 3, 7], [0, 1, 1]), ([1, 2], [0, 1]), ([0], [0]), ([255], [1])],
)
def test_a_painted_mask_hides_what_is_not_0_or_2_where_ids_count_from_1(ids, hidden):
    reading = label_ids.understand_mask(stored(ids))
    assert label_ids.as_classes(stored(ids), reading).read(whole((1, 1, len(ids)))).ravel().tolist() == hidden
    assert bool(reading.notes) == (ids == [1, 2]) and bool(reading.doubts) == (len(ids) == 1)


def test_a_few_odd_voxels_do_not_make_255_unknown_without_a_doubt():
    mask = np.zeros((3, 30, 40), np.uint8)
    mask[:, 5:15, 5:15], mask[0, 0, 0] = 255, 1
    for label_map in ((), label_ids.IDENTITY):
        (doubt,) = label_ids.understand(array_volume(mask, "mask.tif"), BINARY, label_map).doubts
        assert doubt.startswith("mask.tif: 255 is taken as unknown, 300 voxels, and 1 are other foreground; where 255")
        assert "--label_map=1:1,255:CLASS" in doubt
    few_labelled = np.full_like(mask, 255)
    few_labelled[0, :2], few_labelled[0, 0, :2] = 0, 1
    half_unknown = np.where(mask == 255, 1, mask)
    half_unknown[:, 20:] = 255
    for labels in (few_labelled, half_unknown):
        assert label_ids.understand(array_volume(labels, "mask.tif"), BINARY).doubts == ()


def test_a_mask_of_many_ids_may_be_an_image():
    image = np.arange(3 * 30 * 40).reshape(3, 30, 40) % 200
    (doubt,) = label_ids.understand_mask(array_volume(image.astype(np.uint8), "grey.tif")).doubts
    assert doubt.startswith("grey.tif holds 0, 1, 2") and doubt.endswith(
        "is it an image? All but 0 is hidden, as in a mask"
    )
    assert label_ids.understand_mask(array_volume((image % 7).astype(np.uint8), "mask.tif")).doubts == ()


@pytest.mark.parametrize(
    ("ids", "said"),
    [([0, 1, 255], "0, 1 and 255"), ([0, 7, 255], "0, 7 and 255"), ([0, 255], ""), ([255], ""), ([0, 1], "")],
)
def test_of_a_painted_mask_it_is_said_that_255_beside_other_numbers_is_not_unknown(ids, said):
    reading = label_ids.understand_mask(stored(ids), ("outside", "inside"))
    wanted = (f"mask.tif holds {said}: 255 is taken as inside, as all but 0 is, and not as unknown",) if said else ()
    assert reading.notes == wanted


@pytest.mark.parametrize("ids", [[1, 3], [0, -1], [0, -3], [0, 0.5]])
def test_a_painted_mask_that_could_mean_anything_is_refused(ids):
    with pytest.raises(BadInput):
        label_ids.understand_mask(stored(ids, float))


def test_a_painted_mask_in_signed_bytes_is_refused_with_the_reason():
    with pytest.raises(BadInput, match=r"mask.tif \(int8\) holds -1 and 0, 255 stored as signed bytes, it seems; save"):
        label_ids.understand_mask(stored([0, -1], np.int8))


def test_one_channel_of_a_grey_picture_is_labels_and_one_of_colours_is_refused(tmp_path):
    grey = np.repeat(np.array([[[0, 1], [1, 0]]] * 2, np.uint8)[..., None], 3, -1)
    colours = grey * np.array([255, 128, 0], np.uint8)
    for name, array in (("grey", grey), ("colours", colours)):
        tifffile.imwrite(tmp_path / f"{name}.tif", array, photometric="rgb", metadata={"axes": "ZYXS"})
    first = open_volume(tmp_path / "grey.tif", channel=0)
    assert label_ids.understand(first, BINARY).label_map == ((0, 0), (1, 1))
    with pytest.raises(BadInput, match="holds colours, expected a number for every class: 0 background, 1 mito"):
        label_ids.understand(open_volume(tmp_path / "colours.tif", channel=0), BINARY)
    tifffile.imwrite(tmp_path / "stain.tif", np.moveaxis(colours, -1, 1), metadata={"axes": "ZCYX"}, imagej=True)
    assert label_ids.understand(open_volume(tmp_path / "stain.tif", channel=0), BINARY), "channels are no colours"


SOME = st.sampled_from([-1, 0, 1, 2, 3, 4, 5, 6, 100, 254, 255, 256, 820, 2**40])
MAPS = st.sampled_from([(), (), (), label_ids.IDENTITY, label_ids.INSTANCES, ((255, 1),), ((1, 3), (2, 1))])


@given(ids=st.lists(SOME, min_size=1, max_size=8), scheme=st.sampled_from(ALL), label_map=MAPS)
def test_any_ids_become_classes_or_are_refused_and_foreground_is_never_lost_without_a_word(ids, scheme, label_map):
    try:
        classes, said = read(ids, scheme, label_map, np.int64)
    except BadInput as refused:
        assert "--label_map" in str(refused) or "label_map" in str(refused) or "no known label" in str(refused)
        return
    assert all(-1 <= label < len(scheme["names"]) for label in classes)
    before, after = (sum(label > 0 for label in labels) for labels in (ids, classes))
    assert before == after or said or label_map
    if any(one < 0 and found < 0 for one, found in zip(ids, classes, strict=True)):
        assert "-1 is taken as unknown" in said
