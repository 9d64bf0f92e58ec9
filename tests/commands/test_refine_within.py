"""maeref refine --within: masks by path, pattern and table; workers, parts and repairs; mistakes in one line."""

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from fakes import SHAPE, labels
from scipy import ndimage
from stacks import IMAGE, LABELS, SIZE, SMALL, mistakes, result, sidecar

from maeref_jax.commands import verify
from maeref_jax.pipeline import refining
from maeref_jax.volumes.volume import create_volume, open_volume, write_tiff
from maeref_jax.volumes.windows import whole

COARSE = (3, 8, 10)  # of 4 x 4 voxels


def coarse():
    """A mask on a grid of its own, and what it is on that of the stacks."""
    mask = np.zeros(COARSE, np.uint8)
    mask[:2, 1:4, 2:6] = 255
    return mask, (mask.repeat(4, 1).repeat(4, 2)[:, : SHAPE[1], : SHAPE[2]] > 0)


def save(path, mask, size=(30.0, 20.0, 16.0)):
    create_volume(path, mask.shape, str(mask.dtype), voxel_size_nm=size).write(whole(mask.shape), mask)


def test_a_mask_beside_images_labels_and_in_tables(refine):
    mask, inside = coarse()
    save("stacks/a_mask.ome.zarr", mask)
    for stem in "ab":
        write_tiff(f"stacks/{stem}_m.tif", inside.astype(np.uint8), SIZE)
    code, out, err = refine(*IMAGE, "--within", "stacks/a_mask.ome.zarr", *SMALL, "--config.report=true")
    assert (code, mistakes(err)) == (0, "") and f"{inside.mean():.2%} of the volume worked on; of this" in out
    assert not result("out", "a", "initial")[~inside].any() and result("out", "a", "initial")[inside].any()
    assert (
        sidecar()["within"]["path"] == "stacks/a_mask.ome.zarr"
        and "stacks/a_mask.ome.zarr" in Path("out/report.html").read_text()
    )
    several = ["--input", "stacks/[ab].tif", *IMAGE[2:-2], "--output", "several", *SMALL]
    code, out, err = refine(*several, "--within", "{stem}_m.tif")
    assert (code, mistakes(err)) == (0, "") and "2 of 2 inputs done" in out
    np.testing.assert_array_equal(result("several", "a", "initial"), result("out", "a", "initial"))
    assert not result("several", "b", "refined")[~inside].any()
    code, _, err = refine(*several, "--within", "stacks/a_m.tif")
    assert code == 2 and "--within stacks/a_m.tif: with several inputs a name pattern is needed" in err
    Path("table.csv").write_text(
        "labels,entropy,within,stem\na_labels.tif,stacks/a_entropy.tif,stacks/a_mask.ome.zarr,a\n"
        "b_labels.tif,stacks/b_entropy.tif,,b\n"
    )
    table = ["--batch", "table.csv", "--refiner", "mae", "--output", "table", *SMALL]
    code, out, err = refine(*table)
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("table", "a", "initial"), labels(0) * inside)
    np.testing.assert_array_equal(result("table", "b", "initial"), labels(1))
    assert f"warning: a: {int((labels(0) > 0)[~inside].sum()):,} of" in err
    code, _, err = refine(*table, "--within", "stacks/a_mask.ome.zarr")
    assert code == 2 and "--batch and --within both say what to refine" in err


def test_the_voxel_size_that_is_given_is_that_of_the_input(refine):
    """A mask on another grid keeps its own."""
    mask, inside = coarse()
    save("mask.ome.zarr", mask)
    np.save("plain.npy", labels())
    np.save("mask.npy", inside)
    given = ["--labels", "plain.npy", "--refiner", "none", "--classes", "a,b,c,d", "--axes", "ZYX", *SMALL]
    entropy = ["--entropy", "stacks/a_entropy.tif", "--voxel_size_nm", "30,5,4"]
    for name in ("mask.ome.zarr", "mask.npy"):
        code, _, err = refine(*given, *entropy, "--within", name, "--output", name.partition(".")[2])
        assert (code, mistakes(err)) == (0, "")
        np.testing.assert_array_equal(result(name.partition(".")[2], "plain", "initial"), labels() * inside)


def test_the_typed_command_names_the_mask_and_another_one_is_refused(refine, capsys):
    mask, _ = coarse()
    save("mask.ome.zarr", mask)
    command = [*LABELS, "--entropy", "stacks/a_entropy.tif", "--within", "mask.ome.zarr", *SMALL]
    assert refine(*command)[0] == 0
    before = result("out", "a_labels", "refined")
    block = next(Path("out/a_labels.ome.zarr/labels/initial/0/c").rglob("[0-9]"))
    next(path for path in block.rglob("*") if path.is_file()).unlink()
    assert verify.main(["--repair", "out"]) == 1
    typed = capsys.readouterr().out.strip().splitlines()[-1].removeprefix("to make it again: ")
    assert "--within mask.ome.zarr" in typed
    code, _, err = refine(*shlex.split(typed)[2:])
    assert (code, mistakes(err)) == (0, "")
    np.testing.assert_array_equal(result("out", "a_labels", "refined"), before)
    assert verify.main(["out"]) == 0
    mask[2, 5, 5] = 255
    save("other.ome.zarr", mask)
    code, _, err = refine(*command[:-4], "--within", "other.ome.zarr", *SMALL)
    assert code == 2 and "was made otherwise: inputs.within" in err


def test_a_dry_run_counts_what_is_saved_and_writes_nothing(refine):
    mask, inside = coarse()
    save("mask.ome.zarr", mask)
    command = [*IMAGE, *SMALL, "--config.block=1,8,8"]
    lines = []
    for more in ([], ["--within", "mask.ome.zarr"]):
        code, out, _ = refine(*command, *more, "--dry_run")
        assert code == 0 and not Path("out").exists()
        lines.append(next(line for line in out.splitlines() if "segment: " in line))
    assert (
        f"  inside the mask: {inside.mean():.2%} of the voxels; " in out
        and f"mask.ome.zarr: {inside.mean():.2%} of a lies" in out
    )
    all_of, some = (int(line.split()[1].replace(",", "")) for line in lines)
    assert 0 < some < all_of / 2


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["--within", "none.tif"], "no such file: none.tif"),
        (["--within", "empty.npy", "--axes", "ZYX"], "empty.npy excludes every voxel of a: nothing is inside"),
        (["--within", "soft.npy", "--axes", "ZYX"], "soft.npy (float32) holds 0.25; labels are whole numbers"),
        (["--within", "stacks/a_small.ome.zarr"], "a_small.ome.zarr"),
        (["--within", "out/a.ome.zarr/labels/initial"], "would overwrite the input out/a.ome.zarr/labels/initial"),
    ],
)
def test_masks_that_cannot_be_used_are_one_line(refine, given, why):
    np.save("empty.npy", np.zeros(SHAPE, np.uint8))
    np.save("soft.npy", np.full(SHAPE, 0.25, np.float32))
    save("stacks/a_small.ome.zarr", np.ones((3, 8, 8), np.uint8))
    if "overwrite" in why:
        assert refine(*IMAGE, *SMALL)[0] == 0
    code, _, err = refine(*IMAGE, *given, *SMALL)
    assert code == 2 and why in err and mistakes(err).count("\n") == 1
    if "overwrite" not in why:
        assert not list(Path("out").glob("*.json"))


def test_parts_work_within_the_mask(refine):
    save("mask.ome.zarr", coarse()[0])
    command = [*LABELS[:4], "--entropy", "stacks/a_entropy.tif", "--within", "mask.ome.zarr", *SMALL]
    parts = [*command, "--output", "parts", "--num_parts", "2", "--config.wait_minutes=0", "--part_id"]
    codes = [refine(*parts, part)[0] for part in "010"]
    assert codes[-1] == 0
    assert refine(*command, "--output", "alone")[0] == 0
    for role in ("initial", "refined", "hidden"):
        found = [result(where, "a_labels", role) for where in ("parts", "alone")]
        np.testing.assert_array_equal(*found, role)
    told = [json.loads(Path(where, "a_labels.json").read_text())["within"] for where in ("parts", "alone")]
    assert told[0] == told[1]


def test_a_mask_that_is_mirrored_in_the_world_is_doubted(refine):
    nibabel = pytest.importorskip("nibabel")
    _, inside = coarse()
    for name, array, turn in (("cell", labels(), 1), ("mask", inside, 1), ("mirrored", inside, -1)):
        affine = np.diag([turn * SIZE[2], SIZE[1], SIZE[0], 1.0])
        nibabel.save(nibabel.Nifti1Image(array.astype(np.uint8).transpose(2, 1, 0), affine), f"{name}.nii.gz")
    command = ["--labels", "cell.nii.gz", "--entropy", "stacks/a_entropy.tif", "--refiner", "mae", *SMALL]
    told = "mirrored.nii.gz lies elsewhere in the world than cell.nii.gz, or is turned"
    for mask, doubts in (("mask", 0), ("mirrored", 1)):
        code, _, err = refine(*command, "--within", f"{mask}.nii.gz", "--output", mask)
        assert code == 0 and err.count(told) == doubts
        assert sum(told in warning for warning in sidecar("cell", mask)["warnings"]) == doubts


WIDE = (3, 96, 112)


@pytest.fixture
def resin(refine):
    """wide.tif, half of it texture and half nearly flat, and the command that works on it."""
    rng = np.random.default_rng(0)
    image = np.where(np.arange(112) < 56, rng.normal(120, 50, WIDE), rng.normal(120, 2, WIDE))
    write_tiff("wide.tif", image.astype(np.float32), (40.0, 40.0, 40.0))
    return ["--input", "wide.tif", *IMAGE[2:], "--within", "auto", *SMALL]


def stored(role, directory="out"):
    return refining.open_result(directory, "wide", role).read(whole(WIDE))


def test_auto_makes_a_mask_first_and_keeps_it(refine, resin):
    code, out, _ = refine(*resin, "--dry_run")
    assert code == 0 and "a dry run does not" in out and not Path("out").exists()
    code, _, err = refine(*resin, "--num_parts", "2", "--part_id", "0")
    assert code == 2 and "maeref tissue --input" in err and not Path("out").exists()
    code, out, err = refine(*resin)
    assert (code, mistakes(err)) == (0, "")
    mask = open_volume("out/wide_tissue.ome.zarr").read(whole(WIDE)) > 0
    assert mask[:, :, :50].all() and not mask[:, :, 70:].any()
    assert not stored("initial")[~mask].any() and stored("initial")[mask].any()
    assert sidecar("wide")["within"]["path"] == "out/wide_tissue.ome.zarr"
    assert Path("out/tissue.html").exists() and Path("out/report.html").exists() is False
    made = Path("out/wide_tissue.json").stat().st_mtime_ns
    code, out, _ = refine(*resin)
    assert code == 0 and "out/wide.json is complete already" in out
    assert Path("out/wide_tissue.json").stat().st_mtime_ns == made
    code, out, _ = refine(*resin, "--dry_run")
    assert code == 0 and f"inside the mask: {mask.mean():.2%}" in out
    named = [*resin[: resin.index("auto")], "out/wide_tissue.ome.zarr", *SMALL]
    code, out, _ = refine(*named)
    assert code == 0 and "complete already" in out, "it is the same mask, by its own name"
    code, _, err = refine(*resin, "--overwrite", "--num_parts", "2", "--part_id", "0")
    assert code == 2 and "overwrite with several parts" in err
    assert Path("out/wide_tissue.json").stat().st_mtime_ns == made, "the other parts use it"
    assert refine(*resin, "--overwrite")[0] == 0
    code, _, err = refine(*LABELS, "--entropy", "stacks/a_entropy.tif", "--within", "auto", *SMALL)
    assert code == 2 and "a_labels: --within auto makes a mask by the texture of the image; give --input" in err


@pytest.mark.parametrize("smooth", [0, 2])
def test_what_is_doubted_of_the_mask_is_doubted_of_the_result(refine, resin, smooth):
    """Of one texture everywhere it is not known what it is; an empty mask leaves nothing to do."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=WIDE), (0, smooth, smooth))
    write_tiff("wide.tif", (120 + 50 * noise / noise.std()).astype(np.float32), (40.0, 40.0, 40.0))
    code, _, err = refine(*resin)
    told = json.loads(Path("out/wide_tissue.json").read_text())["warnings"]
    assert any("no two kinds of texture" in text for text in told) and f"warning: {told[0]}" in err
    if smooth:
        assert code == 0 and set(told) <= set(sidecar("wide")["warnings"])
    else:
        assert code == 2 and "excludes every voxel of wide" in err
