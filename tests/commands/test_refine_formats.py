"""refine with files of other formats: what comes out lies where the input lay, --export, --channel, --voxel_size_nm."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import SHAPE, labels
from stacks import LABELS, SIZE, SMALL, result, sidecar

from maeref_jax.volumes.volume import open_volume, write_tiff
from maeref_jax.volumes.windows import whole

PAINTED = np.zeros(SHAPE, np.uint8)
PAINTED[:, 8:16, 8:16] = 1


def exported(name):
    volume = open_volume(f"out/{name}")
    return volume.read(whole(volume.shape)), volume.voxel_size_nm


def test_results_in_the_format_of_the_input(refine):
    nibabel = pytest.importorskip("nibabel")
    pytest.importorskip("mrcfile")
    affine = np.array([[0, -0.005, 0, 7.0], [-0.004, 0, 0, -3.0], [0, 0, 0.03, 1.0], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(labels(0).astype(np.uint8).T, affine)
    image.header.set_xyzt_units("micron")
    nibabel.save(image, "cell.nii.gz")
    write_tiff("cell_h.tif", PAINTED, None)
    command = ["--labels", "cell.nii.gz", "--hidden", "cell_h.tif", *LABELS[2:], *SMALL]
    code, out, err = refine(*command, "--export", "nii.gz,MRC")
    assert (code, err) == (0, "") and "cell.nii.gz: its affine flips or turns the axes" in out
    assert sorted(path.name for path in Path("out").glob("*_refined.*")) == ["cell_refined.mrc", "cell_refined.nii.gz"]
    written = nibabel.load("out/cell_refined.nii.gz")
    np.testing.assert_allclose(written.affine, affine, rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, result("out", "cell", "refined"))
    for name in ("refined", "initial", "entropy", "hidden"):
        for suffix in ("nii.gz", "mrc"):
            array, size = exported(f"cell_{name}.{suffix}")
            assert size == pytest.approx(SIZE, rel=1e-4)
            np.testing.assert_array_equal(array, result("out", "cell", name))
    made = sidecar("cell")
    code, out, _ = refine(*command, "--export", "nrrd")
    assert code == 0 and "complete already, wrote 4 exports" in out
    listed = {path.name: path.stat().st_size for path in Path("out").glob("cell_*.*")}
    assert {name: found["bytes"] for name, found in sidecar("cell")["files"].items() if name in listed} == listed
    assert sidecar("cell") == made | {"files": sidecar("cell")["files"]}
    np.testing.assert_array_equal(exported("cell_refined.nrrd")[0], result("out", "cell", "refined"))
    code, out, _ = refine(*command, "--export", "nrrd")
    assert code == 0 and "nothing to do" in out
    assert refine(*command, "--overwrite")[0] == 0
    assert not list(Path("out").glob("cell_refined.*")), "of an output that is replaced nothing stays"
    code, _, err = refine(*command, "--export", "docx", "--overwrite")
    assert code == 2 and "cannot write the format 'docx', expected one of nii, nii.gz" in err


def test_a_channel_is_chosen_of_every_file_that_has_several(refine):
    write_tiff("h.tif", PAINTED, SIZE)
    for name, array in (("rgb", labels(0)), ("rgb_h", PAINTED * 255)):
        samples = np.repeat(array.astype(np.uint8)[..., None], 3, -1)
        tifffile.imwrite(f"{name}.tif", samples, photometric="rgb", metadata={"axes": "ZYXS"})
    for stem, hidden in (("a_labels", "rgb_h"), ("rgb", "h")):
        command = ["--labels", f"{stem}.tif", "--hidden", f"{hidden}.tif", *LABELS[2:], *SMALL]
        command += ["--voxel_size_nm", "30,5,4"]
        code, _, err = refine(*command)
        assert code == 2 and "--channel 0 to 2" in err
        code, _, err = refine(*command, "--channel", "0")
        assert (code, err) == (0, "")
        np.testing.assert_array_equal(result("out", stem, "initial"), labels(0))


def test_the_voxel_size_of_probabilities_is_as_the_user_says(refine):
    chances = np.full((4, *SHAPE), 0.25, np.float32)
    np.savez("p.npz", probabilities=chances)
    command = ["--probabilities", "p.npz", *LABELS[2:], *SMALL, "--voxel_size_nm", "30,5,4"]
    code, _, err = refine(*command)
    assert code == 0, err
    assert open_volume("out/p.ome.zarr/labels/refined").voxel_size_nm == SIZE
    Path("t.csv").write_text('probabilities,stem,voxel_size_nm\np.npz,t,"60,5,4"\n')
    assert refine("--batch", "t.csv", *LABELS[2:], *SMALL)[0] == 0
    assert open_volume("out/t.ome.zarr/labels/refined").voxel_size_nm == (60.0, 5.0, 4.0)
