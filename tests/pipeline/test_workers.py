"""Worker processes started and watched by daisy: the order of the passes, deaths, and the same bits as one process."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT
from fakes import refiner, settings

from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.pipeline import workers
from maeref_jax.pipeline.jobs import Job
from maeref_jax.pipeline.refining import open_result, refine_volume
from maeref_jax.results import marks
from maeref_jax.results.place import Output
from maeref_jax.volumes.volume import open_volume, write_tiff
from maeref_jax.volumes.windows import blocks, whole

pytest.importorskip("daisy")
WORKER = """
import os, pathlib, sys, time
sys.path.insert(0, sys.argv[2])
from maeref_jax.pipeline import parts, workers
from maeref_jax.results import marks, output
place, shape, block = output.Output(pathlib.Path(sys.argv[1]), "a"), (2, 30, 50), (1, 16, 16)

def work(step, box):
    if step == "refine":
        assert parts.needed(box, shape, block, (0, 15, 15)) <= marks.finished(place, "segment"), box
    first = place.directory / "died"
    if step == "segment" and box.start == (0, 16, 16) and not first.exists():
        first.touch()
        os.kill(os.getpid(), 9)
    while not (place.directory / "taken").exists():
        time.sleep(0.01)
    marks.mark(place, step, box, {"process": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"]}, {})
    time.sleep(0.05)

before = {"segment": {}, "refine": {"before": "segment", "reach": (0, 15, 15)}}
(place.directory / f"context_{os.getpid()}").write_text(os.environ["DAISY_CONTEXT"])
workers.serve({s: lambda box, s=s: work(s, box) for s in before}, place, shape, block, before)
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "worker.py").write_text(WORKER)
    made = Output(tmp_path, "a")
    made.progress.mkdir(parents=True)
    return made


def take_one(place, monkeypatch):
    """What somebody on this machine can do who finds daisy's port: takes a block and says that it is done."""
    import daisy

    while not (found := [path for path in place.directory.glob("context_*") if path.read_text()]):
        time.sleep(0.01)
    monkeypatch.setenv("DAISY_CONTEXT", found[0].read_text())
    with daisy.Client().acquire_block() as block:
        assert block.task_id == "segment"
    (place.directory / "taken").touch()


def test_every_block_after_those_that_it_reads_one_death_and_one_theft_made_up_for(place, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    thief = threading.Thread(target=take_one, args=(place, monkeypatch))
    thief.start()
    command = [sys.executable, place.directory / "worker.py", place.directory, ROOT]
    steps = {"segment": (0, 0, 0), "refine": (0, 1, 1)}
    said = []
    workers.share_out(place, (2, 2, 4), steps, 2, list(map(str, command)), say=said.append)
    thief.join()
    assert (place.directory / "died").exists() and (place.directory / "taken").exists()
    assert len(said) == 1 and "2 workers, who come to 127.0.0.1 port " in said[0]
    for step in steps:
        done = marks.records(place, step, blocks((2, 30, 50), (1, 16, 16)))
        assert len(done) == 16 and {mark["threads"] for mark in done} == {str(max(1, os.cpu_count() // 2))}
    assert len(list(place.directory.glob("context_*"))) >= 3, "another worker came for the one that died"


def test_workers_that_die_again_and_again_end_the_run_with_their_last_words(place):
    command = [sys.executable, "-c", "import sys; print('error: no memory left', file=sys.stderr); sys.exit(1)"]
    with pytest.raises(CannotGoOn, match="no memory left"):
        workers.share_out(place, (1, 1, 2), {"segment": (0, 0, 0)}, 1, command)


def test_the_first_pass_that_failed_says_why_in_whatever_order_daisy_tells_of_them(place, monkeypatch):
    import daisy

    class Server:
        def run_blockwise(self, *passes, **settings):
            failed = {"completed_count": 0, "total_block_count": 4}
            words = {"refine": "", "segment": "error: no memory left"}
            return {step: SimpleNamespace(**failed, last_worker_error=said) for step, said in words.items()}

    monkeypatch.setattr(daisy, "Server", Server)
    steps = {"segment": (0, 0, 0), "refine": (0, 1, 1)}
    with pytest.raises(CannotGoOn, match="4 blocks of the pass 'segment' could not be done; error: no memory left"):
        workers.share_out(place, (1, 2, 2), steps, 1, ["nobody"])


def test_without_daisy(place, monkeypatch):
    monkeypatch.setitem(sys.modules, "daisy", None)
    monkeypatch.setitem(sys.modules, "daisy.logging", None)
    with pytest.raises(BadInput, match="pip install 'daisy>=2'"):
        workers.share_out(place, (1, 1, 1), {"segment": (0, 0, 0)}, 1, ["true"])


def test_a_worker_whose_environment_was_not_passed_on(place, monkeypatch):
    for name in ("DAISY_CONTEXT", "MAEREF_PASS"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(CannotGoOn, match=r"MAEREF_PASS and DAISY_CONTEXT .*worker_command has to pass"):
        workers.serve({}, place, (1, 1, 1), (1, 1, 1), {})


REFINE = """
import sys
sys.path[:0] = [{root!r}, {root!r} + "/tests"]
import fakes
from maeref_jax.commands import main
from maeref_jax.pipeline import methods
methods.load_model = lambda workdir, kind: fakes.refiner()
main.start("refine")
"""


def test_refine_by_workers_ended_and_begun_again_one_killed_is_the_same_bit_for_bit(tmp_path):
    shape, rng = (4, 64, 96), np.random.default_rng(0)
    entropy = rng.choice(np.array([0.0, 0.9], np.float32), (4, 16, 24), p=[0.8, 0.2]).repeat(4, 1).repeat(4, 2)
    write_tiff(tmp_path / "labels.tif", rng.integers(0, 4, shape).astype(np.uint8), None)
    write_tiff(tmp_path / "entropy.tif", entropy, None)
    (tmp_path / "mae").mkdir()
    (tmp_path / "mae" / "config.json").write_text("{}")
    (tmp_path / "refine.py").write_text(REFINE.format(root=str(ROOT)))
    command = [sys.executable, "refine.py", "--labels", "labels.tif", "--entropy", "entropy.tif", "--refiner", "mae"]
    command += ["--config.block=2,16,16", "--output"]
    command += ["many", "--workers", "2"]
    started = {"cwd": tmp_path, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    many = Output(tmp_path / "many", "labels")
    with subprocess.Popen(command, **started) as process:
        while process.poll() is None and not (marks.finished(many, "segment") and len(workers_of(process.pid)) == 2):
            time.sleep(0.01)
        everybody = [*children(process.pid), *workers_of(process.pid)]
        process.terminate()
        ended = time.monotonic()
        _, errors = process.communicate(timeout=20)
        while any(map(is_alive, everybody)) and time.monotonic() - ended < 20:
            time.sleep(0.01)
        assert (process.returncode, len(everybody)) == (143, 4), errors
        assert time.monotonic() - ended < 10, "SLURM kills after 30 s, and others sooner"
    before = done(many)
    with subprocess.Popen(command, **started) as process:
        killed = None
        while process.poll() is None and killed is None:
            if done(many) > before:
                killed = next(iter(workers_of(process.pid)), None)
                os.kill(killed, signal.SIGKILL) if killed else None
            time.sleep(0.01)
        out, errors = process.communicate()
    assert process.returncode == 0 and killed, errors
    assert "labels: " in out and "relabelled" in out
    volumes = {role: open_volume(tmp_path / f"{role}.tif") for role in ("labels", "entropy")}
    alone = settings(agree_within_nm=40.0)  # as refine.py does, one slice of 30 nm
    refine_volume(Job("labels", tmp_path / "one", **volumes), None, refiner(), alone)
    for role in ("initial", "refined", "entropy", "hidden", "was", "became", "confidence"):
        one, many = (open_result(tmp_path / name, "labels", role).read(whole(shape)) for name in ("one", "many"))
        np.testing.assert_array_equal(one, many, role)
    assert (one > 0).any()


def done(output):
    """How many blocks are finished, in all passes: the first one may be over when it is ended."""
    return sum(len(marks.finished(output, step)) for step in ("segment", "refine"))


def workers_of(parent):
    """The processes that do the work: each is the child of one that watches it."""
    return [worker for watching in children(parent) for worker in children(watching)]


def is_alive(process):
    try:
        return Path("/proc", str(process), "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def children(parent):
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            status = Path("/proc", process, "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(status[1]) == parent:
            yield int(process)
