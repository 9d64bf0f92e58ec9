"""Several processes on one output: the same bits as one, whoever comes first, waits, is killed or writes the rest."""

import os
import threading

import numpy as np
import pytest
from fakes import SHAPE, image_job, label_job, refiner, result, segmenter, settings

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.pipeline import parts, passes, refining
from maeref_jax.results import marks, output
from maeref_jax.results.place import Output
from maeref_jax.uncertainty.confidence import Calibration
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import blocks

ROLES = ("initial", "refined", "entropy", "hidden", "was", "became", "confidence", "objects_refined")
ASKED = {"objects": True, "smallest_object_vx": 2, "tiff_export": True}


def asked(**changes):
    return settings(**(ASKED | changes))


@pytest.fixture
def whole_run(tmp_path):
    refining.refine_volume(image_job(tmp_path / "whole"), segmenter(), refiner(), asked())
    return tmp_path / "whole"


def assert_same(one, other):
    for role in ROLES:
        np.testing.assert_array_equal(result(one, role), result(other, role), role)
    for name in ("a_objects.csv", "a_refined.tif"):
        assert (one / name).read_bytes() == (other / name).read_bytes()
    assert sorted(path.name for path in one.iterdir()) == sorted(path.name for path in other.iterdir())


@pytest.mark.parametrize("count", [2, 5])
def test_parts_one_after_the_other(tmp_path, whole_run, count):
    """Those that need blocks of later ones say so and are run again, as a scheduler would."""
    directory, said = tmp_path / "parts", []

    def run(part):
        given = asked(num_parts=count, part_id=part, wait_minutes=0)
        return refining.refine_volume(image_job(directory), segmenter(), refiner(), given, said.append)

    with pytest.raises(CannotGoOn, match=rf"part 0 of {count} waited 0 minutes .* when the parts .*1.* are done"):
        run(0)
    own = {box.start for box in blocks(SHAPE, (2, 16, 16))[0::count]}
    assert marks.finished(Output(directory, "a"), "segment") == own, "not its own blocks"
    for part in range(1, count - 1):
        with pytest.raises(CannotGoOn):
            run(part)
    assert run(count - 1) is None and "waits for the parts 0 " in said[-1]
    summaries = [run(part) for part in range(count - 1)]
    assert summaries[:-1] == [None] * (count - 2) and summaries[-1]["voxels"] == np.prod(SHAPE)
    assert_same(whole_run, directory)
    assert summaries[-1]["hidden_tokens"] == refining.load_summary(image_job(whole_run))["hidden_tokens"]
    assert run(0) == summaries[-1] and "complete already" in said[-1]


def test_parts_that_start_at_the_same_moment(tmp_path, whole_run, monkeypatch):
    monkeypatch.setattr(parts, "POLL_S", 0.02)
    directory, barrier, ended, said = tmp_path / "parts", threading.Barrier(4), [], []

    def run(part):
        barrier.wait()
        given = asked(num_parts=4, part_id=part, wait_minutes=1)
        ended.append(refining.refine_volume(image_job(directory), segmenter(), refiner(), given, said.append))

    threads = [threading.Thread(target=run, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ended) == 4, "a part failed"
    assert any(summary is not None for summary in ended), said
    assert_same(whole_run, directory)


def test_only_one_creates_and_all_check_what_it_was_made_by(tmp_path, monkeypatch):
    """Another process, with another threshold, creates the output between the look and the creation."""
    real = output.create

    def slow(*arguments):
        monkeypatch.setattr(output, "create", real)
        first = settings(num_parts=2, threshold=0.7, wait_minutes=0)
        with pytest.raises(CannotGoOn):
            refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), first)
        real(*arguments)

    monkeypatch.setattr(output, "create", slow)
    with pytest.raises(BadInput, match=r"threshold was 0.7 and is now 0.4"):
        refining.refine_volume(image_job(tmp_path), segmenter(), refiner(), settings(num_parts=2, part_id=1))
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"], "a temporary folder is left"


def test_what_is_left_may_be_done_by_one(tmp_path, whole_run):
    with pytest.raises(CannotGoOn):
        given = asked(num_parts=3, part_id=1, wait_minutes=0)
        refining.refine_volume(image_job(tmp_path / "parts"), segmenter(), refiner(), given)
    refining.refine_volume(image_job(tmp_path / "parts"), segmenter(), refiner(), asked())
    assert_same(whole_run, tmp_path / "parts")


def test_the_rest_is_written_by_one_that_lives(tmp_path, whole_run):
    """Every block is there, and somebody on another machine has said that it writes the rest."""
    directory, said = tmp_path / "parts", []
    given, job = asked(), image_job(directory)
    run = refining.open_run(job, segmenter(), refiner(), given)
    for step, work in passes.passes(run).items():
        parts.run_pass(run.place, step, run.shape, run.settings.block, work)
    claim = run.place.progress / "finish_1"
    claim.write_text('{"host": "elsewhere", "process": 1, "started": "1"}')
    with pytest.raises(
        CannotGoOn, match="another process writes the rest"
    ):  # an output that is not whole is no success
        refining.refine_volume(job, segmenter(), refiner(), given)
    of_two = given._replace(num_parts=2)
    assert refining.refine_volume(job, segmenter(), refiner(), of_two, said.append) is None
    assert "another process writes the rest" in said[-1] and not (directory / "a.json").exists()
    claim.write_text('{"host": "elsewhere", "process')  # killed while it wrote
    os.utime(claim, (1.0, 1.0))
    assert refining.refine_volume(job, segmenter(), refiner(), given, said.append) is not None
    assert_same(whole_run, directory)


def test_an_output_that_is_not_whole_is_no_success(tmp_path):
    """Whoever said that all blocks are done: the marks count."""
    given, job = asked(), image_job(tmp_path)
    run = refining.open_run(job, segmenter(), refiner(), given)
    with pytest.raises(CannotGoOn, match="12 blocks of the pass 'segment' are not done"):
        refining.finish(run)
    assert refining.finish(run._replace(settings=given._replace(num_parts=2))) is None


@pytest.mark.parametrize(("changes", "message"), [({"part_id": 2}, "part_id is 2 of"), ({"overwrite": True}, "remove")])
def test_refused(tmp_path, changes, message):
    with pytest.raises(BadInput, match=message):
        refining.refine_volume(label_job(tmp_path), None, refiner(), settings(num_parts=2, **changes))
    assert not list(tmp_path.iterdir())


def test_needed_blocks_are_those_in_reach():
    boxes = blocks(SHAPE, (2, 16, 16))
    for box in boxes:
        expected = {b.start for b in boxes if not b.intersect(box.grow((1, 3, 17))).empty}
        assert parts.needed(box, SHAPE, (2, 16, 16), (1, 3, 17)) == expected


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (refiner(), {"trust": True, "foreignness": True}),
        (refiner()._replace(calibration=Calibration((1.0, 1.5, 2.0, 3.0))), {}),  # depths reach beyond its windows
    ],
)
def test_the_halo_is_all_that_a_block_reads(tmp_path, monkeypatch, model, more):
    """So what is waited for suffices: with everything undecided and small blocks, nothing beyond it is looked at."""
    job = label_job(tmp_path, entropy=array_volume(np.ones(SHAPE, np.float32), "entropy"))
    run = refining.open_run(job, None, model, settings(block=(1, 4, 4), **more))
    work, reads = passes.passes(run), []
    for box in blocks(SHAPE, (1, 4, 4)):
        work["segment"](box)
        run.checked.compare("segment", box)  # which reads whole blocks
    real = type(run.arrays["initial"]).read
    monkeypatch.setattr(type(run.arrays["initial"]), "read", lambda v, box: (reads.append(box), real(v, box))[1])
    for start in ((1, 0, 0), (1, 8, 8), (2, 12, 20), (2, 28, 36)):
        box = next(box for box in blocks(SHAPE, (1, 4, 4)) if box.start == start)
        reads.clear()
        work["refine"](box)
        around = box.grow(run.before("refine")["reach"])
        assert reads and all(read.intersect(around) == read for read in reads)
