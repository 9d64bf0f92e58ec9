"""maeref tissue, from the command line to the files: images, masks of any values and voxels, and mistakes."""

import json

import numpy as np
import pytest
import tifffile
from resin import tissue_in_resin
from scipy import ndimage

from maeref_jax.commands import tissue as command
from maeref_jax.volumes.volume import array_volume, create_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import whole

SHAPE, SIZE = (4, 64, 72), (40.0, 20.0, 20.0)


def image(seed=0):
    array, inside = tissue_in_resin(SHAPE, 18, seed)
    return array.clip(0, 255).astype(np.uint8), inside


def painted():
    _, y, x = np.indices(SHAPE)
    return (np.hypot(y - 32, x - 36) < 18) | (np.hypot(y - 5, x - 6) < 3)


def found(folder, stem="a"):
    volume = open_volume(folder / f"{stem}_tissue.ome.zarr")
    return volume.read(whole(volume.shape)), volume


def told(folder, stem="a"):
    return json.loads((folder / f"{stem}_tissue.json").read_text())


@pytest.fixture
def folder(tmp_path):
    write_tiff(tmp_path / "a.tif", image()[0], SIZE)
    return tmp_path


def test_an_image_becomes_a_mask_a_sidecar_and_a_page(run, folder):
    done = run("maeref", "tissue", "--input", folder / "a.tif", "--output", folder / "out")
    assert done.returncode == 0, done.stderr
    mask, volume = found(folder / "out")
    inside = image()[1]
    assert mask[inside].mean() > 0.99 and mask[~ndimage.binary_dilation(inside, iterations=14)].mean() < 0.02
    assert volume.voxel_size_nm == SIZE and volume.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    summary = told(folder / "out")
    assert summary["tissue_share"] == pytest.approx(mask.mean()) and summary["cleaning"]["open_nm"] == 60
    attributes = json.loads((folder / "out" / "a_tissue.ome.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert [one["class"] for one in attributes["image-label"]["properties"]] == ["resin", "tissue"]
    page = (folder / "out" / "tissue.html").read_text()
    assert "<img" in page and f"{mask.mean():.1%} of a is tissue" in page
    assert "looked at in 4 x 64 x 72 voxels of 40, 20, 20 nm" in done.stdout.replace(" x 20 x 20 nm", ", 20, 20 nm")
    again = run("maeref", "tissue", "--input", folder / "a.tif", "--output", folder / "out")
    assert again.returncode == 0 and "nothing to do" in again.stdout
    assert run("maeref", "verify", folder / "out").returncode == 0


def test_it_looks_at_the_voxel_size_that_is_asked_for(run, folder):
    flags = ["--input", folder / "a.tif", "--output", folder / "out", "--at_voxel_size_nm", "80,40,40"]
    done = run("maeref", "tissue", *flags)
    assert done.returncode == 0 and "brought back" not in done.stdout, done.stderr
    mask, volume = found(folder / "out")
    assert mask.shape == (2, 32, 36) and volume.voxel_size_nm == (80, 40, 40)
    assert told(folder / "out")["cleaning"]["open_nm"] == 120


@pytest.mark.parametrize("values", [(0, 1, np.uint8), (0, 255, np.uint8), (0, 1, np.float32), (0, 7, np.uint16)])
def test_pitfall_9_masks_of_any_two_values_are_understood(run, folder, values):
    low, high, dtype = values
    write_tiff(folder / "a.tif", np.where(painted(), high, low).astype(dtype), SIZE)
    flags = ["--open_nm", "0", "--close_nm", "0", "--grow_nm", "0", "--smallest_vx", "0"]
    done = run("maeref", "tissue", "--mask", folder / "a.tif", "--output", folder / "out", *flags)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(found(folder / "out")[0], painted())
    assert told(folder / "out")["tissue_share"] == pytest.approx(painted().mean())


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (painted() * np.float32(0.7), "labels are whole numbers"),
        (painted() * 2 + np.uint8(3), "expected 0 for what is resin"),
        (np.where(painted(), np.int16(-3), np.int16(0)), "holds the labels"),
    ],
)
def test_pitfall_9_masks_of_other_values_are_refused_in_one_line(run, folder, given, expected):
    np.save(folder / "a.npy", given)
    flags = ["--output", folder / "out", "--axes", "ZYX", "--voxel_size_nm", "40,20,20"]
    done = run("maeref", "tissue", "--mask", folder / "a.npy", *flags)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1
    assert not (folder / "out").exists()


def test_clean_up_alone_keeps_the_largest_and_grows_it(run, folder):
    write_tiff(folder / "a.tif", painted().astype(np.uint8), SIZE)
    flags = ["--keep", "largest", "--grow_nm", "-100", "--open_nm", "0", "--close_nm", "0"]
    done = run("maeref", "tissue", "--mask", folder / "a.tif", "--output", folder / "out", *flags)
    assert done.returncode == 0, done.stderr
    _, y, x = np.indices(SHAPE)
    distance = 20 * np.hypot(y - 32, x - 36)
    mask = found(folder / "out")[0] != 0
    assert mask[distance < 240].all() and not mask[distance > 280].any()


def test_a_mask_is_brought_to_finer_voxels_with_a_smooth_border_and_to_coarser_ones_by_vote(run, folder):
    write_tiff(folder / "a.tif", painted().astype(np.uint8), SIZE)
    flags = ["--mask", folder / "a.tif", "--open_nm", "0", "--close_nm", "0", "--grow_nm", "0", "--keep", "largest"]
    assert run("maeref", "tissue", *flags, "--output", folder / "fine", "--at_voxel_size_nm", "40,5,5").returncode == 0
    mask, volume = found(folder / "fine")
    assert volume.shape == (4, 256, 288) and volume.voxel_size_nm == (40, 5, 5)
    y, x = (5 * (np.arange(n) + 0.5) for n in volume.shape[1:])
    distance = np.hypot(y[:, None] - 20 * 32.5, x - 20 * 36.5) * np.ones((4, 1, 1))
    assert mask[distance < 350].all() and not mask[distance > 370].any(), "within half a coarse voxel"
    assert (
        run("maeref", "tissue", *flags, "--output", folder / "rough", "--at_voxel_size_nm", "80,80,80").returncode == 0
    )
    assert found(folder / "rough")[1].shape == (2, 16, 18)


def test_without_a_voxel_size_an_image_is_refused_and_a_mask_is_cleaned_but_for_lengths(run, folder):
    np.save(folder / "a.npy", painted().astype(np.uint8))
    done = run("maeref", "tissue", "--input", folder / "a.npy", "--axes", "ZYX", "--output", folder / "out")
    assert done.returncode == 2 and "give --voxel_size_nm Z,Y,X" in done.stderr
    mask = ["--mask", folder / "a.npy", "--axes", "ZYX", "--output", folder / "out"]
    done = run("maeref", "tissue", *mask, "--open_nm", "50")
    assert done.returncode == 2 and "open_nm is 50 nm, but no file says how large" in done.stderr
    done = run("maeref", "tissue", *mask, "--keep", "largest")
    assert done.returncode == 0, done.stderr
    assert found(folder / "out")[0].sum() == ndimage.sum(painted(), *[ndimage.label(painted())[0]], index=2)


def test_a_constant_volume_gives_an_empty_mask_with_warnings(run, folder):
    write_tiff(folder / "a.tif", np.full(SHAPE, 9, np.uint8), SIZE)
    done = run("maeref", "tissue", "--input", folder / "a.tif", "--output", folder / "out")
    assert done.returncode == 0 and not found(folder / "out")[0].any()
    assert "grey value 9 nearly everywhere" in done.stderr and "the mask is empty" in done.stderr
    assert "Warnings" in (folder / "out" / "tissue.html").read_text()
    strict = run("maeref", "tissue", "--input", folder / "a.tif", "--output", folder / "strict", "--strict")
    assert strict.returncode == 2 and not (folder / "strict").exists()


def test_of_several_inputs_one_that_fails_does_not_stop_the_others(run, folder):
    tifffile.imwrite(folder / "b.tif", image()[0], imagej=True, metadata={"axes": "ZYX"})  # no voxel size
    done = run("maeref", "tissue", "--input", folder / "a.tif", folder / "b.tif", "--output", folder / "out")
    assert done.returncode == 1 and "error: b: " in done.stderr
    assert (folder / "out" / "a_tissue.json").exists() and not (folder / "out" / "b_tissue.json").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--output is missing"),
        (["--output", "o"], "expected one of --input, images, and --mask"),
        (["--output", "o", "--input", "a.tif", "--mask", "a.tif"], "found both"),
        (["--output", "o", "--mask", "a.tif", "--model", "texture"], "a --mask is only cleaned up"),
        (["--output", "o", "--input", "a.tif", "--model", "nowhere"], "nowhere is not the workdir"),
        (["--output", "o", "--input", "a.tif", "--model", "mae"], "has to be trained first"),
        (["--output", "o", "--input", "a.tif", "--model", "nearest"], "error: nearest is no segmenter; by name"),
        (["--output", "o", "--input", "a.tif", "--keep", "some"], "keep is some"),
        (["--output", "o", "--input", "a.tif", "--open_nm", "-4"], "open_nm is -4"),
        (["--output", "o", "--input", "a.tif", "--open_nm", "wide"], "--config.open_nm must be a number"),
        (["--output", "o", "--input", "a.tif", "--voxel_size_nm", "1,2"], "--voxel_size_nm Z,Y,X"),
        (["--output", "o", "--input", "none.tif"], "no such file"),
    ],
)
def test_mistakes_are_answered_in_one_line(run, folder, flags, expected):
    flags = [str(folder / flag) if flag.endswith((".tif", "o")) and "-" not in flag else flag for flag in flags]
    done = run("maeref", "tissue", *flags)
    assert done.returncode == 2 and expected in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "o").exists()


def test_another_programs_page_is_left_as_it_is(run, folder):
    (folder / "out").mkdir()
    (folder / "out" / "tissue.html").write_text("mine")
    done = run("maeref", "tissue", "--input", folder / "a.tif", "--output", folder / "out")
    assert done.returncode == 0 and "not made by maeref tissue" in done.stderr
    assert (folder / "out" / "tissue.html").read_text() == "mine"


def test_a_mask_for_other_commands(folder):
    lines = []
    volume = open_volume(folder / "a.tif")
    first = command.mask_for(volume, folder / "out", "a", lines.append)
    assert first.voxel_size_nm == SIZE and 0.1 < first.read(whole(SHAPE)).mean() < 0.5
    again = command.mask_for(volume, folder / "out", "a", lines.append)
    np.testing.assert_array_equal(again.read(whole(SHAPE)), first.read(whole(SHAPE)))
    assert any("nothing to do" in line for line in lines)


def test_coarser_levels_of_an_ome_zarr_are_read(run, folder):
    from maeref_jax.volumes.pyramid import write_pyramid

    path, array = folder / "a.ome.zarr", np.kron(image()[0], np.ones((1, 2, 2), np.uint8))
    made = create_volume(path, array.shape, array.dtype, voxel_size_nm=(40.0, 10.0, 10.0))
    made.write(whole(array.shape), array)
    write_pyramid(path, "mean")
    flags = ["--input", path, "--output", folder / "out", "--at_voxel_size_nm", "40,20,20"]
    done = run("maeref", "tissue", *flags)
    assert done.returncode == 0 and "level 1" in done.stdout, done.stderr
    assert array_volume(array, "a").shape == (4, 128, 144) and found(folder / "out")[0].shape == (4, 64, 72)


def test_a_trained_model_looks_at_its_own_voxel_size_and_all_but_its_first_class_is_tissue(run, folder, monkeypatch):
    import fakes

    from maeref_jax.pipeline import methods

    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text("{}")
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: fakes.segmenter())
    write_tiff(folder / "a.tif", fakes.image(), (30.0, 10.0, 8.0))
    flags = ["--input", folder / "a.tif", "--model", folder / "model", "--output", folder / "out", "--smallest_vx", "0"]
    done = run("maeref", "tissue", *flags)
    assert done.returncode == 0, done.stderr
    assert found(folder / "out")[1].voxel_size_nm == (30, 5, 4), "twice as fine, as the model was trained"
    before = open_volume(folder / "out" / "a_tissue.ome.zarr" / "labels" / "found")
    assert 0 < before.read(whole(before.shape)).mean() < 1
    assert any("all but background is taken as tissue" in text for text in told(folder / "out")["notes"])
    assert told(folder / "out")["workdirs"]["segmenter"] == "runs/fake"
    assert not any("noise" in text for text in told(folder / "out")["warnings"])
    noise = np.random.default_rng(0).normal(120, 9, (4, 64, 72)).astype(np.float32)
    write_tiff(folder / "b.tif", noise, (30.0, 5.0, 4.0))
    done = run("maeref", "tissue", "--input", folder / "b.tif", *flags[2:])
    assert done.returncode == 0 and "looks like noise and nothing else" in done.stderr, done.stderr
    assert any("runs/fake may take part for tissue" in text for text in told(folder / "out", "b")["warnings"])


def test_texture_of_other_lengths_is_a_workdir(run, folder):
    lengths = ["--config.lengths.window_nm=100", "--config.lengths.texture_nm=40"]
    done = run("train.py", "--config", "texture", "--workdir", folder / "model", *lengths)
    assert done.returncode == 0 and "learns nothing" in done.stdout, done.stderr
    flags = ["--input", folder / "a.tif", "--output", folder / "out", "--model", folder / "model"]
    done = run("maeref", "tissue", *flags)
    assert done.returncode == 0 and "smaller than set" not in done.stdout, done.stderr
    assert told(folder / "out")["workdirs"]["segmenter"] == str(folder / "model")
    other = run("maeref", "tissue", *flags[:4])
    assert other.returncode == 2 and "was made otherwise" in other.stderr


def test_from_python_texture_is_a_segmenter_by_its_name():
    import maeref_jax

    array, inside = image()
    found = maeref_jax.segment(maeref_jax.load_model("texture"), array, voxel_size_nm=SIZE)
    assert found.labels[inside].mean() > 0.8 > 0.2 > found.labels[~inside].mean()
