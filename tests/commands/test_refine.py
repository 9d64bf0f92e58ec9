"""refine.py as a user meets it: images, labels or probabilities of any format in, refined volumes out; exit codes."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import SHAPE, image, labels
from stacks import IMAGE, LABELS, SIZE, SMALL, entropy_of, mistakes, result, sidecar

from maeref_jax.pipeline import passes, refining
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.volume import create_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import whole


def test_an_image_and_an_ensemble(refine):
    code, out, err = refine(*IMAGE)
    assert (code, mistakes(err)) == (0, "")
    assert "a: " in out and "hidden" in out and "out/a.json" in out
    summary = sidecar()
    exported = open_volume("out/a_refined.tif")
    assert exported.voxel_size_nm == SIZE
    np.testing.assert_array_equal(exported.read(whole(SHAPE)), result("out", "a"))
    assert summary["changed_voxels"] > 0
    code, out, _ = refine(*IMAGE)
    assert code == 0 and "complete already" in out


def test_labels_alone_with_a_glob(refine):
    for stem in "ab":
        write_tiff(f"{stem}_labels_mask.tif", entropy_of(0) > 0, None)
    code, _, err = refine(
        "--labels", "[ab]_labels.tif", "--hidden", "{stem}_mask.tif", "--refiner", "mae", "--output", "out"
    )
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("out", "b_labels", "initial"), labels(1))
    np.testing.assert_array_equal(result("out", "b_labels", "hidden"), entropy_of(0) > 0)


def test_probabilities_and_zarr_and_slices(refine):
    draw = np.random.default_rng(1).dirichlet(np.ones(4), SHAPE).astype(np.float32)
    for name, share in (("first", draw), ("second", draw**2 / (draw**2).sum(-1, keepdims=True))):
        tifffile.imwrite(f"{name}.tif", np.moveaxis(share, -1, 0), photometric="minisblack", metadata={"axes": "CZYX"})
    code, _, err = refine("--probabilities", "first.tif", "second.tif", "--refiner", "mae", "--output", "out")
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("out", "first", "initial"), draw.argmax(-1))
    code, _, err = refine(
        *["--labels", "out/first.ome.zarr/labels/initial[1:3]", "--entropy", "out/first.ome.zarr/entropy[1:3]"],
        *["--refiner", "mae", "--output", "again"],
    )
    assert (code, mistakes(err)) == (0, "")
    stored = refining.open_result("again", "initial", "initial")
    np.testing.assert_array_equal(stored.read(whole(stored.shape)), draw.argmax(-1)[1:3])


def test_refiner_none_only_segments(refine):
    code, out, _ = refine(*IMAGE, "--refiner", "none", *SMALL)
    assert code == 0 and "0.00% relabelled" in out
    assert not Path("out/a.ome.zarr/labels/refined").exists() and Path("out/a.ome.zarr/entropy").exists()


def test_other_formats_give_the_same_result(refine):
    pytest.importorskip("h5py")
    code, _, err = refine("--input", "stacks/a.tif", *LABELS, "--entropy", "stacks/a_entropy.tif")
    assert code == 0, err
    raw = np.stack([image()[::-1], image()])
    options = {"voxel_size_nm": SIZE, "classes": 2, "channels": ("back", "em")}
    stored = create_ome_zarr("a.ome.zarr", SHAPE, raw.dtype, **options)
    stored.write(tuple(slice(0, n) for n in raw.shape), raw)
    for name, array in (("a.n5", labels().astype(np.uint8)), ("a.h5:/volumes/entropy", entropy_of(0))):
        create_volume(name, SHAPE, array.dtype, voxel_size_nm=SIZE).write(whole(SHAPE), array)
    command = ["--input", "a.ome.zarr", "--labels", "{stem}.n5", "--entropy", "{stem}.h5:/volumes/entropy"]
    code, _, err = refine(*command, "--channel", "em", "--refiner", "mae", "--output", "other")
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("other", "a"), result("out", "a"))
    code, _, err = refine(*command, "--channel", "er", "--refiner", "mae", "--output", "third")
    assert code == 2 and "no channel of that name" in err and "called back, em" in err


def test_non_ascii_paths(refine):
    Path("données µ").mkdir()
    write_tiff("données µ/Zelle 1.tif", image(), SIZE)
    code, _, err = refine(*IMAGE[2:], "--input", "données µ/Zelle 1.tif")
    assert (code, mistakes(err)) == (0, "") and Path("out/Zelle 1_refined.tif").exists()


def test_paths_may_go_up(refine):
    Path("below").mkdir()
    code, _, err = refine(*IMAGE, "--output", "below/../out")
    assert (code, mistakes(err)) == (0, "") and result("below/../out", "a").shape == SHAPE


def test_interrupted_is_130_and_the_same_command_continues(refine, monkeypatch):
    command = [*IMAGE, "--config.block=1,8,64", "--config.ask=0"]
    real, calls = passes.refine_block, []

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "refine_block", interrupted)
    code, _, err = refine(*command)
    assert code == 130 and not Path("out/a.json").exists() and "interrupted" in err
    assert refine(*command)[0] == 0
    assert len(calls) == 12 + 1, "a finished block was repeated"


def test_an_output_that_cannot_be_written(refine):
    Path("out").write_text("a file, no folder")
    code, _, err = refine(*IMAGE)
    assert code == 2 and err.startswith("error: the output out cannot be made") and "is a file" in err


def test_the_script_itself_answers_fast_and_without_traceback(root):
    started, given = time.monotonic(), ["--input", "none.tif", "--output", "o", "--refiner", "none", "--ensemble", "x"]
    command = [sys.executable, root / "refine.py", *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "error: --ensemble x is not the workdir of a train.py run: it has no config.json\n"
    assert time.monotonic() - started < 10
    check = "import sys, refine; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=root, check=False).returncode == 0, "jax is imported early"
