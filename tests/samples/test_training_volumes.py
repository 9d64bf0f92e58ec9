import numpy as np
import pytest
import tifffile

from maeref_jax.errors import BadInput
from maeref_jax.samples.sampling import crop
from maeref_jax.samples.training_volumes import (
    annotated_phantoms,
    labelled,
    labelled_text,
    missing_classes,
    stems,
    volumes_from_files,
)
from maeref_jax.volumes.class_scheme import scheme_of_names
from maeref_jax.volumes.volume import create_volume
from maeref_jax.volumes.windows import whole

DATA = {"label_map": (), "shell_class": -1, "shell_vx": 0.0, "axes": "ZYX"}


@pytest.fixture
def save(tmp_path):
    def write(name, array):
        tifffile.imwrite(tmp_path / name, array)
        return str(tmp_path / name)

    return write


def split(labels=(), images=(), entropy=()):
    return {"labels": labels, "images": images, "entropy": entropy, "labelled_slices": ()}


def test_files_become_volumes_with_their_labels_mapped_and_their_entropy_scaled(save):
    labels = np.zeros((2, 8, 9), np.uint8)
    labels[:, 2:6, 2:6] = 9
    labels[0, 0, 0] = 255
    paths = split(
        (save("l.tif", labels),),
        (save("i.tif", labels.astype(np.uint16)),),
        (save("e.tif", np.full(labels.shape, 51, np.uint8)),),
    )
    (volume,) = volumes_from_files(paths, {**DATA, "label_map": ((0, 0), (9, 2))}, scheme=3, with_image=True)
    assert volume.name == paths["labels"][0] and volume.labels.dtype == np.int16 and volume.labels[0, 0, 0] == -1
    assert (volume.labels[:, 2:6, 2:6] == 2).all()
    assert volume.image.dtype == np.float32 and np.allclose(volume.entropy, 0.2)


@pytest.mark.parametrize(
    ("labels", "image", "entropy", "message"),
    [
        (np.full((2, 8, 8), 7, np.uint8), np.zeros((2, 8, 8)), None, "label_map"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 9)), None, "shape"),
        (np.zeros((2, 8, 8), np.float32) + 0.5, np.zeros((2, 8, 8)), None, "whole numbers"),
        (np.zeros((2, 8, 8), np.uint8), np.full((2, 8, 8), np.nan), None, "holds nan at voxel"),
        (np.zeros((2, 8, 8), np.uint8), np.zeros((2, 8, 8)), np.full((2, 8, 8), 1.4), "nats"),
    ],
    ids=["ids", "shape", "fractions", "NaN", "nats"],
)
def test_volumes_that_cannot_be_learned_from_are_refused(save, labels, image, entropy, message):
    entropy = () if entropy is None else (save("e.tif", entropy.astype(np.float32)),)
    paths = split((save("l.tif", labels),), (save("i.tif", image.astype(np.float32)),), entropy)
    with pytest.raises(BadInput, match=message):
        volumes_from_files(paths, DATA, scheme=4, with_image=True)


def test_images_and_labels_come_in_pairs(save):
    with pytest.raises(BadInput, match="as many images as labels"):
        volumes_from_files(split((save("l.tif", np.zeros((2, 8, 8), np.uint8)),)), DATA, 4, with_image=True)


def test_annotated_phantoms_hold_the_ambiguous_class_and_their_seed():
    (volume,) = annotated_phantoms((3,), (8, 96, 96), (20.0, 10.0, 10.0))
    assert volume.name == "phantom_3" and set(np.unique(volume.labels)) <= {0, 1, 2, 3, 4}
    assert (volume.labels == 4).any() and volume.image.shape == volume.labels.shape


def test_what_was_taken_how_is_told_and_a_volume_without_any_known_label_is_refused(save):
    scheme, said = scheme_of_names(("background", "mitochondria", "nuclei", "ambiguous")), []
    labels = np.zeros((2, 8, 8), np.uint8)
    labels[0, 0] = 2
    labels[1, 1] = 255
    (volume,) = volumes_from_files(split((save("l.tif", labels),)), DATA, scheme, False, said.append)
    assert said == [f"{volume.name}: 255 is taken as unknown"] and (volume.labels == -1).sum() == 8
    assert missing_classes([volume], scheme) == ["mitochondria"], "nobody misses 'ambiguous'"
    nothing = split((save("n.tif", np.full((2, 8, 8), -1, np.int16)),))
    with pytest.raises(BadInput, match=r"n.tif holds no known label: all voxels are unknown; expected some of 0 back"):
        volumes_from_files(nothing, DATA, scheme, False)


def test_files_are_read_as_the_settings_say(save):
    """The image has two channels, the labels are colours."""
    scheme = scheme_of_names(("background", "mitochondria"))
    labels = np.zeros((2, 8, 9), np.uint8)
    labels[:, 2:6, 2:6] = 1
    two = np.stack([labels * 7, labels * 9], -1)
    paths = split((save("l.tif", np.stack([labels] * 3, -1)),), (save("i.tif", two),))
    with pytest.raises(BadInput, match="--channel 0 to 1"):
        volumes_from_files(paths, {**DATA, "axes": "ZYXC"}, scheme, with_image=True)
    said = {**DATA, "axes": "ZYXC", "channel": "1", "voxel_size_nm": (20, 5, 5)}
    (volume,) = volumes_from_files(paths, said, scheme, with_image=True)
    assert (volume.image == 9 * labels).all() and (volume.labels == labels).all()


@pytest.fixture
def masked(save, tmp_path):
    """Paths of labels without any 0 in two corners, and of a coarser mask that leaves the first of them."""
    labels, coarse = np.zeros((2, 24, 24), np.uint8), np.zeros((1, 6, 6), np.uint8)
    labels[:, :8, :8] = labels[:, 16:, 16:] = 1
    coarse[0, :3, :3] = 255
    path = str(tmp_path / "mask.ome.zarr")
    made = create_volume(path, coarse.shape, "uint8", voxel_size_nm=(60.0, 20.0, 20.0))
    made.write(whole(coarse.shape), coarse)
    return save("l.tif", labels), path


SIZED = {**DATA, "voxel_size_nm": (30.0, 5.0, 5.0), "label_map": ((0, 0), (1, 1))}


def test_outside_of_a_mask_nothing_is_known_and_crops_lie_inside(save, masked):
    labels, mask = masked
    image = save("i.tif", np.ones((2, 24, 24), np.float32))
    both, said = {**split((labels, labels), (image, image)), "within": (mask, "")}, []
    inside, everywhere = volumes_from_files(both, SIZED, 2, True, said.append)
    np.testing.assert_array_equal(inside.labels[:, :12, :12], everywhere.labels[:, :12, :12])
    assert (inside.labels[:, 12:] == -1).all() and (inside.labels[:, :, 12:] == -1).all()
    assert inside.inside[:, :12, :12].all() and inside.inside.sum() == 2 * 144 and everywhere.inside is None
    assert set(np.unique(everywhere.labels)) == {0, 1} and said == [
        f"{mask}: 25.00% of {labels} lies inside; what is outside is left out, as unknown"
    ]
    for seed in range(40):
        for foreground in (0.0, 0.3):
            found = crop(inside, np.random.default_rng(seed), (6, 6), foreground)
            assert (found["labels"] >= 0).any()
    assert len(inside.foreground) == 2 * 64 and inside.foreground[:, 1:].max() < 8


def test_how_the_numbers_of_a_mask_are_read_is_told(save, masked):
    labels, _ = masked
    ids, said = np.zeros((2, 24, 24), np.uint8), []
    ids[:, :12], ids[:, 12:14] = 1, 255
    mask = save("ids.tif", ids)
    (volume,) = volumes_from_files({**split((labels,)), "within": (mask,)}, SIZED, 2, False, said.append)
    assert said[0] == f"{mask} holds 0, 1 and 255: 255 is taken as inside, as all but 0 is, and not as unknown"
    assert said[1].startswith(f"{mask}: 58.33% of ") and volume.inside[:, :14].all() and not volume.inside[:, 14:].any()


def test_masks_that_do_not_fit_are_refused_in_one_line(save, masked):
    labels, mask = masked
    for within, data, message in (
        ((mask, mask), SIZED, "as many masks \\(within\\) as volumes, 1, found 2"),
        ((mask,), {**SIZED, "voxel_size_nm": None}, "needs voxel sizes, and that of .*l.tif is not known; give it"),
        ((save("m.tif", np.ones((2, 6, 6), np.uint8)),), SIZED, "needs voxel sizes, and its own is not known"),
        ((save("n.tif", np.zeros((2, 24, 24), np.uint8)),), SIZED, "n.tif excludes every voxel of .*l.tif"),
    ):
        with pytest.raises(BadInput, match=message):
            volumes_from_files({**split((labels,)), "within": within}, data, 2, False)
    unknown = np.full((2, 24, 24), 255, np.uint8)
    unknown[:, 20:] = [[0, 1] * 12]
    with pytest.raises(BadInput, match=r"no voxel of .*u.tif inside of .*mask.ome.zarr has a known label"):
        known = {**SIZED, "label_map": ((0, 0), (1, 1), (255, -1))}
        volumes_from_files({**split((save("u.tif", unknown),)), "within": (mask,)}, known, 2, False)


def test_clicks_beside_an_image_are_labels_like_others(save, masked, tmp_path):
    """Two of the three lie inside of the mask; the one of slice 1 is not among the labelled slices."""
    image, (_, mask) = save("i.tif", np.ones((2, 24, 24), np.float32)), masked
    clicked = tmp_path / "c.csv"
    clicked.write_text("z,y,x,class\n0,3,4,1\n1,5,5,0\n0,20,20,0\n")
    paths, said = split((str(clicked),), (image,)), []
    (volume,) = volumes_from_files(paths, SIZED, 2, True, said.append)
    assert np.argwhere(volume.labels >= 0).tolist() == [[0, 3, 4], [0, 20, 20], [1, 5, 5]]
    assert volume.name == str(clicked) and volume.labels.dtype == np.int16 and (volume.image == 1).all()
    chosen = {**paths, "within": (mask,), "labelled_slices": (0,)}
    (inside,) = volumes_from_files(chosen, SIZED, 2, True, said.append)
    assert np.argwhere(inside.labels >= 0).tolist() == [[0, 3, 4]] and inside.labels[0, 3, 4] == 1
    assert f"{mask}: 25.00% of {image} lies inside; what is outside is left out, as unknown" in said
    with pytest.raises(BadInput, match=r"c\.csv holds clicks, and here whole label maps are needed"):
        volumes_from_files(paths, SIZED, 2, False)


def test_how_much_is_labelled_is_counted_over_all_volumes(save):
    labels = np.full((2, 10, 10), 255, np.uint8)
    labels[0, :2], labels[1, 0, :5] = 0, 1
    scheme, paths = scheme_of_names(("background", "mitochondria", "nuclei")), (save("l.tif", labels),) * 2
    volumes = volumes_from_files(split(paths), {**DATA, "label_map": ((255, -1), (1, 1))}, scheme, False, [].append)
    found = labelled(volumes, scheme)
    classes = {"background": 40, "mitochondria": 10, "nuclei": 0}
    assert found == {"voxels": 50, "of": 400, "share": 0.125, "classes": classes}
    assert labelled_text(found) == ("50 of 400 voxels are labelled (12.5 %): background 40, mitochondria 10, nuclei 0")


def test_no_two_stems_are_alike():
    assert stems(["x/a.tif", "y/b.ome.tif[2:4]"]) == ["a", "b_2_4"]
    assert stems(["x/a.tif", "y/a.tif", "z/b.tif"]) == ["a_0", "a_1", "b"]
    assert len(set(stems(["x/a.tif", "y/a.tif", "z/a_0.tif"]))) == 3
