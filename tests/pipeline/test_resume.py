"""pipeline/refining.py, interrupted and run again: complete, continued or refused, never mixed."""

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fakes import image, image_job, label_job, refiner, result, segmenter, settings

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import blockwise, passes, refining, segmenting
from maeref_jax.volumes.volume import array_volume, open_volume


def test_completed_is_left_alone_and_other_settings_are_refused(tmp_path):
    said = []
    first = refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(), said.append)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    again = refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(), said.append)
    assert again == first and "complete already" in said[-1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    with pytest.raises(BadInput, match=r"settings.threshold was 0.4 and is now 0.5.*--overwrite"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(threshold=0.5))
    with pytest.raises(BadInput, match=r"settings.agree_within_nm was 0.0 and is now 40.0"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(agree_within_nm=40.0))
    with pytest.raises(BadInput, match=r"segmenter.parameters_sha256"):
        refining.refine_volume(image_job(tmp_path), segmenter(scale=1.0), refiner(), settings())
    other_size = image_job(tmp_path, image=array_volume(image(), "image", (30.0, 5.0, 5.0)))
    with pytest.raises(BadInput, match=r"image.voxel_size_nm was \[30.0, 5.0, 4.0\] and is now \[30.0, 5"):
        refining.refine_volume(other_size, segmenter(), refiner(), settings())
    other = image_job(tmp_path, image=array_volume(image(1), "image"))
    with pytest.raises(BadInput, match=r"inputs.image.sha256"):
        refining.refine_volume(other, segmenter(), refiner(), settings())
    summary = refining.refine_volume(other, segmenter(), refiner(), settings(threshold=0.5, overwrite=True))
    assert summary["made_by"]["settings"]["threshold"] == 0.5


@pytest.mark.parametrize("complete", [True, False])
def test_what_was_made_before_a_setting_existed_is_made_with_it_off(tmp_path, complete):
    refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings())
    sidecar, progress = tmp_path / "a.json", tmp_path / "a.ome.zarr" / "progress" / "made_by.json"
    for path in (sidecar, progress):
        text = path.read_text()
        assert '"agree_within_nm": 0.0,' in text
        path.write_text(text.replace('"agree_within_nm": 0.0,', ""))
    if not complete:
        sidecar.unlink()
    with pytest.raises(BadInput, match=r"settings.agree_within_nm was null and is now 40.0"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(agree_within_nm=40.0))
    said = []
    assert refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(), said.append)["voxels"]
    assert any("complete already" in line for line in said) == complete


def test_an_output_whose_slices_agreed_otherwise_is_not_continued(tmp_path):
    refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(agree_within_nm=30.0))
    for path in (tmp_path / "a.json", tmp_path / "a.ome.zarr" / "progress" / "made_by.json"):
        found = json.loads(path.read_text())
        (found.get("made_by") or found).pop("slices_agree")  # as an earlier version left it
        path.write_text(json.dumps(found))
    with pytest.raises(BadInput, match=r"slices_agree was null and is now .as surely as their entropy says"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(agree_within_nm=30.0))


def test_foreign_folders_are_never_touched(tmp_path):
    (tmp_path / "a.ome.zarr").mkdir()
    (tmp_path / "a.ome.zarr" / "precious").write_text("data")
    for overwrite in (False, True):
        with pytest.raises(BadInput, match="not made by"):
            refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(overwrite=overwrite))
    assert (tmp_path / "a.ome.zarr" / "precious").read_text() == "data"


def test_output_that_would_overwrite_its_input_is_refused(tmp_path):
    refining.refine_volume(label_job(tmp_path), None, refiner(), settings())
    own = refining.open_result(tmp_path, "a", "initial")
    with pytest.raises(BadInput, match="would overwrite the input"):
        refining.refine_volume(label_job(tmp_path, labels=own), None, refiner(), settings(overwrite=True))
    own = open_volume(tmp_path / "a_initial.tif")
    with pytest.raises(BadInput, match="would overwrite the input"):
        refining.refine_volume(label_job(tmp_path, labels=own), None, refiner(), settings(overwrite=True))


def test_an_interrupted_run_continues_and_ends_the_same(tmp_path, monkeypatch):
    refining.refine_volume(image_job(tmp_path / "whole"), segmenter(), refiner(), settings())
    for stop_after in (2, 8, 19):  # in either pass
        directory, calls = tmp_path / str(stop_after), []
        for place, name in ((segmenting, "segment_block"), (passes, "refine_block")):
            real = getattr(blockwise, name)

            def counted(*arguments, real=real, calls=calls, stop_after=stop_after):
                calls.append(real)
                if len(calls) == stop_after:
                    raise KeyboardInterrupt
                return real(*arguments)

            monkeypatch.setattr(place, name, counted)
        with pytest.raises(KeyboardInterrupt):
            refining.refine_volume(image_job(directory), segmenter(), refiner(), settings())
        assert not (directory / "a.json").exists()
        refining.refine_volume(image_job(directory), segmenter(), refiner(), settings())
        assert len(calls) == 2 * 12 + 1, "a finished block was repeated"
        for role in ("initial", "refined", "entropy", "hidden"):
            np.testing.assert_array_equal(result(directory, role), result(tmp_path / "whole", role))


def test_killed_at_any_moment(tmp_path):
    """kill -9 while blocks, marks and exports are being written: the next run completes to the same arrays."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            """
            import sys, pathlib
            sys.path[:0] = [sys.argv[2], sys.argv[2] + "/tests"]
            import fakes as t
            from maeref_jax.pipeline import refining
            print("ready", flush=True)
            refining.refine_volume(t.image_job(pathlib.Path(sys.argv[1])), t.segmenter(), t.refiner(), t.settings())
            """
        )
    )
    directory, root = tmp_path / "out", Path(__file__).parents[2]
    process = subprocess.Popen([sys.executable, script, directory, root], stdout=subprocess.PIPE, text=True)
    with process:
        process.stdout.readline()
        progress = directory / "a.ome.zarr" / "progress" / "segment"
        while process.poll() is None and len(list(progress.glob("[0-9]*.json"))) < 3:
            pass
        process.send_signal(signal.SIGKILL)
    assert not (directory / "a.json").exists()
    done = len(list(progress.glob("[0-9]*.json")))
    assert done >= 3
    before = {path: path.stat().st_mtime_ns for path in progress.glob("[0-9]*.json")}
    refining.refine_volume(image_job(directory), segmenter(), refiner(), settings())
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())
    refining.refine_volume(image_job(tmp_path / "whole"), segmenter(), refiner(), settings())
    for role in ("initial", "refined", "entropy", "hidden"):
        np.testing.assert_array_equal(result(directory, role), result(tmp_path / "whole", role))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_output(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OSError, match="denied"):
        refining.refine_volume(label_job(tmp_path / "out"), None, refiner(), settings())
