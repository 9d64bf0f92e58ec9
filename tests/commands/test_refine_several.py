"""Several inputs of refine.py: globs, name patterns, tables, folders, parts; one that fails does not stop the rest."""

from pathlib import Path

import numpy as np
import tifffile
from fakes import SHAPE, image, labels
from stacks import IMAGE, SIZE, SMALL, damage_last_page, mistakes, result

from maeref_jax.pipeline import refining
from maeref_jax.volumes.volume import create_volume, write_tiff
from maeref_jax.volumes.windows import whole


def test_several_inputs_globs_and_name_patterns(refine):
    code, out, err = refine(
        *["--input", "stacks/[ab].tif", "stacks/c.tif", "--labels", "./{stem}_labels.tif"],
        *["--entropy", "{stem}_entropy.tif", "--refiner", "mae", "--output", "out", *SMALL],
    )
    assert (code, mistakes(err)) == (0, "") and "3 of 3 inputs done" in out
    for seed, stem in enumerate("abc"):
        np.testing.assert_array_equal(result("out", stem, "initial"), labels(seed))
        assert (result("out", stem, "hidden")[:, 4 * seed : 4 * seed + 8, 8:16] == 1).all()
        assert result("out", stem, "hidden").mean() < 0.2
    assert not Path("out/a_refined.tif").exists(), "the smoke mode exports no TIFF"


def test_a_batch_table_and_a_folder_of_volumes(refine):
    rows = ["image,labels,entropy,hidden,stem,axes,voxel_size_nm", "stacks/a.tif,,,,,,", "stacks/none.tif,,,,,,"]
    rows += ["stacks/b.tif,b_labels.tif,stacks/b_entropy.tif,,,,", 'plain.tif,,,,c,ZYX,"30,5,4"']
    tifffile.imwrite("plain.tif", image(2), photometric="minisblack", metadata=None)
    Path("table.csv").write_text("\n".join(rows))
    command = ["--batch", "table.csv", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out", *SMALL]
    code, out, err = refine(*command)
    assert code == 1 and "2 of 4 inputs done; failed: table.csv line 4, none" in out
    assert "error: table.csv line 4: expected one of ensemble" in err and "no such file: stacks/none.tif" in err
    assert mistakes(err).count("\n") == 2
    assert sorted(path.name for path in Path("out").glob("*.json")) == ["a.json", "c.json"]
    assert refining.open_result("out", "c", "refined").voxel_size_nm == SIZE
    code, _, err = refine(*command, "--input", "stacks/a.tif")
    assert code == 2 and "--batch and --input both say what to refine" in err
    Path("many").mkdir()
    for stem in "ab":
        create_volume(f"many/{stem}.npy", SHAPE, "float32").write(whole(SHAPE), image())
    given = ["--axes", "ZYX", "--voxel_size_nm", "30,5,4", "--output", "folder", *SMALL]
    code, out, err = refine("--input", "many", "--ensemble", "ensemble", "--refiner", "mae", *given)
    assert (code, mistakes(err)) == (0, "") and "2 of 2 inputs done" in out


def test_one_failing_input_does_not_stop_the_rest(refine):
    bad = image()
    bad[0, 0, 0] = np.nan
    tifffile.imwrite("stacks/b.tif", bad, imagej=True, metadata={"axes": "ZYX"})
    Path("stacks/c.tif").write_bytes(Path("stacks/c.tif").read_bytes()[:300])
    command = ["--input", "stacks/[abc].tif", *IMAGE[2:], *SMALL]
    code, out, err = refine(*command)
    assert code == 1 and "1 of 3 inputs done; failed: c, b" in out
    assert (
        "error: b: stacks/b.tif holds nan" in err and "error: c: stacks/c.tif" in err and mistakes(err).count("\n") == 2
    )
    assert sorted(path.name for path in Path("out").iterdir()) == ["a.json", "a.ome.zarr"], "half-written output"
    write_tiff("stacks/b.tif", image(1), SIZE)
    write_tiff("stacks/c.tif", image(2), SIZE)
    code, out, _ = refine(*command)
    assert code == 0 and "out/a.json is complete already" in out and "3 of 3" in out


def test_a_damaged_page_is_one_message_and_leaves_nothing_that_looks_finished(refine):
    damage_last_page("b_entropy.tif")
    write_tiff("a_entropy.tif", np.zeros(SHAPE, np.uint8), SIZE)
    command = ["--refiner", "mae", "--output", "out", "--axes", "ZYX", "--config.block=1,64,64", "--config.ask=0"]
    one = ["--labels", "b_labels.tif", "--entropy", "b_entropy.tif"]
    code, out, err = refine(*command, *one)
    assert code == 2 and "relabelled" not in out
    err = mistakes(err)
    assert err.startswith("error: b_entropy.tif: page 2 cannot be decoded") and err.count("\n") == 1
    left = {path.name for path in Path("out").glob("*")}
    assert left <= {"b_labels.ome.zarr"}, "a sidecar or an export looks finished"
    Path("table.csv").write_text("labels,entropy\na_labels.tif,a_entropy.tif\nb_labels.tif,b_entropy.tif\n")
    code, out, err = refine(*command, "--batch", "table.csv")
    assert code == 1 and "1 of 2 inputs done; failed: b_labels" in out
    assert "error: b_labels: b_entropy.tif: page 2" in err.replace(str(Path.cwd()) + "/", "")
    assert Path("out/a_labels.json").exists() and not Path("out/b_labels.json").exists()


def test_which_part_this_is_has_to_be_said(refine):
    code, _, err = refine(*IMAGE, "--num_parts", "2")
    assert code == 2 and "--num_parts 2 without --part_id: say which of them this is, 0 to 1" in err
    assert not Path("out").exists()


def test_parts_are_run_again_until_all_is_done(refine):
    command = [*IMAGE, "--num_parts", "2", "--config.block=1,16,16", "--config.wait_minutes=0", "--part_id"]
    code, _, err = refine(*command, "0")
    assert code == 1 and "waited 0 minutes" in err and "run the same command again when the parts 1 are done" in err
    code, out, _ = refine(*command, "1")
    assert code == 0 and "waits for the parts 0" in out and not Path("out/a.json").exists()
    code, out, _ = refine(*command, "0")
    assert code == 0 and "relabelled" in out and Path("out/a.json").exists()
    code, _, err = refine(*command, "2", "--overwrite")
    assert code == 2 and "part_id is 2 of num_parts 2" in err
    code, _, err = refine(*command, "1", "--workers", "2")
    assert code == 2 and "expected one of the two" in err
