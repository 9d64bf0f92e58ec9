"""--at_voxel_size_nm as a user meets it: every command reads at that size, refine brings the result back."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import SCHEME, SHAPE, image, labels
from stacks import IMAGE, SIZE, SMALL, entropy_of, mistakes, result, sidecar

from maeref_jax.commands import command_line, render, suggestion, train
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases
from maeref_jax.experiments import train_settings
from maeref_jax.samples.training_volumes import volumes_from_files
from maeref_jax.volumes.volume import create_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import whole

FINE = (15.0, 2.5, 2.0)
AT = ("--at_voxel_size_nm", "30,5,4")
MODELS = ("--ensemble", "ensemble", "--refiner", "mae", "--output", "out")


def fine(array):
    return array.repeat(2, -3).repeat(2, -2).repeat(2, -1)


@pytest.fixture
def files(stacks):
    """In the folder: fine.tif and what belongs to it, of voxels half as long as those of a.tif, of the same."""
    for name, array in (("fine", image()), ("fine_labels", labels()), ("fine_entropy", entropy_of(0))):
        write_tiff(f"{name}.tif", fine(array), FINE)
    return stacks


def test_the_flag_that_a_warning_names_gives_the_result_of_that_size_on_the_files_grid(files, refine):
    assert refine(*IMAGE)[0] == 0
    code, _, err = refine("--input", "fine.tif", *MODELS, *SMALL)
    assert code == 0 and "has voxels of 15 x 2.5 x 2 nm (z y x), but runs/fake was trained on 30 x 5 x 4 nm" in err
    assert "--at_voxel_size_nm 30,5,4 works at it and brings the result back" in err
    command = ["--input", "fine.tif", *MODELS[:-1], "at", *AT]
    code, out, err = refine(*command)
    assert (code, mistakes(err)) == (0, "") and "at_voxel_size_nm" not in err, "no doubt is left"
    assert "fine: worked at 30 x 5 x 4 nm (z y x), brought back to the file's 15 x 2.5 x 2 nm: labels" in out
    for role in ("initial", "refined", "entropy"):
        np.testing.assert_array_equal(result("at", "fine", role), result("out", "a", role))
    back = open_volume("at/fine_refined.tif")
    assert back.voxel_size_nm == pytest.approx(FINE)
    np.testing.assert_array_equal(back.read(whole(back.shape)), fine(result("out", "a")))
    told = sidecar("fine", "at")
    assert (
        told["file_grid"]["shape"] == [2 * n for n in SHAPE] and told["changed_voxels"] == sidecar()["changed_voxels"]
    )
    page = Path("at/report.html").read_text(encoding="utf-8")
    assert "Worked at 30 x 5 x 4 nm (z y x), as all that is told" in page and "15 x 2.5 x 2 nm in the exports" in page
    assert "resampled to that voxel size from 15 × 2.5 × 2 nm" in page
    code, out, _ = refine(*command)
    assert code == 0 and "complete already, nothing to do" in out
    code, out, _ = refine(*command, "--export", "npy")
    assert code == 0 and "wrote 4 exports" in out
    np.testing.assert_array_equal(np.load("at/fine_refined.npy"), fine(result("out", "a")))
    code, _, err = refine("--input", "fine.tif", *MODELS[:-1], "at")
    assert code == 2 and "was made otherwise" in err


def test_files_of_several_sizes_are_read_at_one(files, refine):
    own = ("--labels", "fine_labels.tif", "--refiner", "mae", *SMALL, "--config.tiff_export=true")
    code, _, err = refine(*own, "--entropy", "stacks/a_entropy.tif", "--output", "out")
    assert code == 2 and "has shape (3, 29, 38), but fine_labels.tif has (6, 58, 76)" in err
    assert "their voxels are of different size: --at_voxel_size_nm 15,2.5,2 reads both at one" in err
    direct = ("--labels", "a_labels.tif", "--refiner", "mae", *SMALL)
    assert refine(*direct, "--entropy", "stacks/a_entropy.tif", "--output", "direct")[0] == 0
    code, _, err = refine(*own, "--entropy", "stacks/a_entropy.tif", "--output", "out", *AT)
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("out", "fine_labels"), result("direct", "a_labels"))
    np.testing.assert_array_equal(tifffile.imread("out/fine_labels_initial.tif"), fine(labels()))
    # Painted in one fine voxel alone, its coarse one is hidden.
    painted = np.zeros([2 * n for n in SHAPE], np.uint8)
    painted[3, 21, 40] = 255
    write_tiff("painted.tif", painted, FINE)
    code, _, err = refine(*own, "--hidden", "painted.tif", "--output", "painted", *AT)
    assert (code, mistakes(err)) == (0, "")
    hidden = result("painted", "fine_labels", "hidden")
    assert hidden[1, 8:12, 20:24].all() and hidden.sum() == 16
    write_tiff("short.tif", fine(entropy_of(0))[:2], FINE)
    code, _, err = refine(*own, "--entropy", "short.tif", "--output", "short", *AT)
    assert code == 2 and "short.tif has shape (2, 58, 76)" in err and "both must show the same place" in err


def test_probabilities_of_another_size_are_read_linearly(files, refine):
    draw = np.random.default_rng(1).dirichlet(np.ones(4), SHAPE).astype(np.float32)
    draw = np.moveaxis(draw, -1, 0)
    create_volume("p.ome.zarr", SHAPE, "float32", voxel_size_nm=SIZE, classes=4).write(whole(SHAPE), draw)
    given = ("--input", "fine.tif", "--probabilities", "p.ome.zarr", "--refiner", "mae", *SMALL)
    code, _, err = refine(*given, "--output", "at", "--at_voxel_size_nm", "15,2.5,2")
    assert (code, mistakes(err)) == (0, "")
    found = result_of("at/fine.ome.zarr/labels/initial")
    assert found.shape == tuple(2 * n for n in SHAPE) and not Path("at/fine_on_file_grid.ome.zarr").exists()
    # Linearly: 3/4 of the voxel that it lies in, and 1/4 of the next one, along every axis.
    near = draw.astype(np.float64)
    for axis in (1, 2, 3):
        ahead, behind = (
            np.take(near, np.clip(np.arange(near.shape[axis]) + d, 0, near.shape[axis] - 1), axis) for d in (1, -1)
        )
        pairs = np.stack([near * 0.75 + behind * 0.25, near * 0.75 + ahead * 0.25], axis + 1)
        near = pairs.reshape([*near.shape[:axis], 2 * near.shape[axis], *near.shape[axis + 1 :]])
    assert (found == near.argmax(0)).mean() > 0.999, "but for ties within float32"


def result_of(path):
    volume = open_volume(path)
    return volume.read(whole(volume.shape))


def test_where_a_file_lies_in_the_world_its_results_do(files, refine):
    nibabel = pytest.importorskip("nibabel")
    affine = np.diag([-2.0, 2.5, 15.0, 1.0])
    affine[:3, 3] = 100, -50, 7
    one = nibabel.Nifti1Image(np.ascontiguousarray(fine(image()).transpose(2, 1, 0)), affine)
    one.header.set_xyzt_units("micron")
    nibabel.save(one, "cell.nii.gz")
    at = ("--at_voxel_size_nm", "30000,5000,4000")
    code, _, err = refine("--input", "cell.nii.gz", *MODELS, *SMALL, *at, "--export", "nii.gz")
    assert (code, mistakes(err)) == (0, "")
    found = nibabel.load("out/cell_refined.nii.gz")
    np.testing.assert_allclose(found.affine, affine, rtol=1e-6)
    assert found.shape == one.shape


def test_each_row_of_a_table_is_read_at_that_size(files, refine):
    tifffile.imwrite("unknown.tif", fine(image()), photometric="minisblack", metadata={"axes": "ZYX"})
    Path("table.csv").write_text('image,voxel_size_nm\nfine.tif,\nunknown.tif,\nstacks/b.tif,"15,2.5,2"\n')
    code, out, err = refine("--batch", "table.csv", *MODELS, *SMALL, *AT)
    assert code == 1 and "2 of 3 inputs done; failed: unknown" in out
    assert "error: unknown: unknown.tif cannot be read at another voxel size, as its own is not known; give it" in err
    assert sidecar("fine")["voxels"] == np.prod(SHAPE) and sidecar("b")["voxels"] == np.prod([2, 15, 19])


@pytest.mark.parametrize(
    ("size", "message"),
    [
        ("5", "--at_voxel_size_nm Z,Y,X expects three positive numbers z,y,x, found"),
        ("30,0,4", "--at_voxel_size_nm Z,Y,X expects three positive numbers"),
        ("a,b,c", "three positive numbers"),
        ("30,5,9000", "would have shape (3, 29, 1) at 30 x 5 x 9000 nm: nothing is left of it; ask for smaller voxels"),
    ],
)
def test_sizes_that_are_none_are_refused(files, refine, size, message):
    code, _, err = refine("--input", "fine.tif", *MODELS, *SMALL, "--at_voxel_size_nm", size)
    assert code == 2 and message in err and err.count("\n") == 1 and not Path("out").exists()


def test_a_dry_run_tells_of_both_sizes(files, refine):
    code, out, _ = refine("--input", "fine.tif", *MODELS, *SMALL, "--dry_run", *AT)
    assert code == 0 and "fine: 3 x 29 x 38 voxels of 30 x 5 x 4 nm (z y x)" in out
    assert "the file has 6 x 58 x 76 voxels of 15 x 2.5 x 2 nm: results are brought back to them" in out


def test_a_threshold_is_suggested_at_that_size(files, refine, monkeypatch):
    seen = []
    monkeypatch.setattr(suggestion, "suggest", lambda *given: seen.append(given) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        refine("--input", "fine.tif", *MODELS, "--suggest_threshold", "fine_labels.tif", *AT)
    ((job, _, _, _, truth, _),) = seen
    assert job.image.shape == truth.shape == SHAPE
    np.testing.assert_array_equal(truth.read(whole(SHAPE)), labels())


def test_a_model_is_trained_at_that_size_and_remembers_it(files):
    command = ["--config", "ensemble", "--workdir", "w", *AT, "--images", "fine.tif", "--labels", "fine_labels.tif"]
    arguments, _ = command_line.parse(train.flags(), command)
    overrides = train.flag_overrides(arguments, command_line.load_config("ensemble"))
    config = command_line.load_config("ensemble", overrides).to_dict()
    assert config["voxel_size_nm"] == config["data"]["at_voxel_size_nm"] == (30.0, 5.0, 4.0)
    assert config["data"]["voxel_size_nm"] is None
    (found,) = volumes_from_files(config["data"]["train"], config["data"], SCHEME, True, lambda text: None)
    np.testing.assert_array_equal(found.image, image())
    np.testing.assert_array_equal(found.labels, labels())
    with pytest.raises(BadInput, match=r"data.at_voxel_size_nm is .*, but voxel_size_nm, which the model remembers"):
        train_settings.check({**config, "voxel_size_nm": (20.0, 10.0, 10.0)})


def test_labels_are_judged_at_that_size(files):
    overrides = ("truths=fine_labels.tif", "images=fine.tif", "at_voxel_size_nm=30,5,4")
    config = command_line.load_config("evaluate", [f"--config.files.{one}" for one in overrides]).to_dict()
    (found,) = cases.cases({"phantom": {"seeds": ()}, "files": config["files"]}, SCHEME, Path("out"))
    assert found.voxel_size_nm == (30.0, 5.0, 4.0)
    truth = labels().astype(np.int16)
    np.testing.assert_array_equal(found.truth, np.where(truth == 4, -1, truth))
    np.testing.assert_array_equal(found.inputs["image"].read(whole(SHAPE)), image())


@pytest.mark.parametrize("at", [FINE, SIZE])
@pytest.mark.parametrize("ends", [(3, 29, 38), (2, 28, 37)])
def test_coarse_labels_that_end_half_a_voxel_after_or_before_the_image_are_read_on_one_grid(files, at, ends):
    write_tiff("odd.tif", fine(image())[:5, :57, :75], FINE)
    write_tiff("odd_labels.tif", labels()[tuple(map(slice, ends))], SIZE)
    shape = (5, 57, 75) if at == FINE else ends
    given = {"at_voxel_size_nm": at, "label_map": (), "shell_class": -1}
    split = {"images": ("odd.tif",), "labels": ("odd_labels.tif",), "entropy": (), "labelled_slices": ()}
    (found,) = volumes_from_files(split, given, SCHEME, True, lambda text: None)
    assert found.image.shape == found.labels.shape == shape
    drawn = labels() if at == SIZE else fine(labels())
    same = tuple(slice(min(pair)) for pair in zip(shape, drawn.shape, (4, 56, 74), strict=True))
    np.testing.assert_array_equal(found.labels[same], drawn[same])
    overrides = ("truths=odd_labels.tif", "images=odd.tif", f"at_voxel_size_nm={','.join(map(str, at))}")
    config = command_line.load_config("evaluate", [f"--config.files.{one}" for one in overrides]).to_dict()
    (case,) = cases.cases({"phantom": {"seeds": ()}, "files": config["files"]}, SCHEME, Path("out"))
    # Of evaluation the labels come first: where both are finer than what is read, it is their grid.
    assert case.truth.shape == case.inputs["image"].shape


def test_labels_are_rendered_at_that_size(files):
    drawn = np.zeros((8, 40, 40), np.uint8)
    drawn[:, 8:32, 8:32] = 3
    write_tiff("cell_label.tif", drawn, (5.0, 5.0, 5.0))
    Path("mine.py").write_text(
        textwrap.dedent("""
            '''Mine.'''
            from configs import render_mef_cristae
            MODES = ("",)
            def get_config(mode):
                config = render_mef_cristae.get_config("")
                config.update({"label_map": ((0, 0), (3, 3)), "shell_vx": 1.0, "y_planes": ()})
                config.update({"z_step": 1, "pad_vx": 4})
                config.splits = {"test": {"labels": ("cell_label.tif",), "first_seed": 1, "artefacts": ("",),
                                          "low_signal": {}}}
                return config
        """)
    )
    render.main(["--config", "mine.py", "--output", "rendered", "--at_voxel_size_nm", "10,10,10"])
    found = open_volume("rendered/test/cell_truth.tif")
    assert found.shape == (4, 28, 28) and found.voxel_size_nm == pytest.approx((10, 10, 10))
