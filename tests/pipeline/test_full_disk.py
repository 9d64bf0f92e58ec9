"""A disk that is full, read-only or gone, at any moment of a run: an error, nothing lost, and the same bytes later."""

import builtins
import errno
import io
import os
import shutil
import subprocess
import threading

import numpy as np
import pytest
from fakes import label_job, refiner, settings

from maeref_jax.errors import CannotGoOn
from maeref_jax.pipeline import space
from maeref_jax.pipeline.refining import refine_volume
from maeref_jax.volumes import pyramid
from maeref_jax.volumes.formats import ome_zarr, zarr_store

ASKED = {"objects": True, "smallest_object_vx": 2, "trust": True, "block": (2, 32, 40)}
FULL = (errno.ENOSPC, errno.EROFS, errno.EDQUOT)


class Disk:
    """Counts the writes below a folder, those of Python's own and those of TensorStore, and has something happen before
    each of those after the first `left`.
    """

    def __init__(self, folder, monkeypatch):
        self.folder, self.names, self.left, self.lock = str(folder), [], np.inf, threading.Lock()
        self.then = lambda number: None  # what happens; number: 1 for the first time
        for module in (builtins, io):
            self.guard(monkeypatch, module, "open", lambda path, mode="r", *_, **__: set(mode) & set("wxa+"))
        for name in ("mkdir", "replace", "rename"):
            self.guard(monkeypatch, os, name, lambda *_, **__: True)
        monkeypatch.setattr(os, "fsync", lambda file, real=os.fsync: self.ask("fsync") or real(file))
        for module in (ome_zarr, pyramid):
            for name in ("write_store", "write_json"):
                self.guard(monkeypatch, module, name, lambda *_, **__: True)
        self.guard(monkeypatch, zarr_store, "open_store", lambda place, spec, what: spec.get("create"))

    def guard(self, monkeypatch, module, name, writes):
        real = getattr(module, name)

        def guarded(path, *given, **how):
            place = getattr(getattr(path, "kvstore", None), "path", path)
            if self.folder in str(place) and writes(path, *given, **how):
                self.ask(name)
            return real(path, *given, **how)

        monkeypatch.setattr(module, name, guarded)

    def ask(self, name):
        with self.lock:
            self.names.append(name)
            if len(self.names) > self.left:
                self.then(len(self.names) - self.left)

    def after(self, left, then):
        self.names, self.left, self.then = [], left, then


def refined(directory):
    return refine_volume(label_job(directory), None, refiner(), settings(**ASKED), lambda line: None)


def made(directory):
    """Everything but the sidecar and the progress, which hold times, byte for byte; of these the names."""
    files = {str(path.relative_to(directory)): path for path in directory.rglob("*") if path.is_file()}
    timed = {name for name in files if "/progress/" in name or ("/" not in name and name.endswith(".json"))}
    kept = {name: path.read_bytes() for name, path in files.items() if name not in timed}
    return kept, {name for name in timed if "/finish_" not in name}


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """A Disk on which one run has been counted, which is in tmp_path / "whole"."""
    disk = Disk(tmp_path, monkeypatch)
    refined(tmp_path / "whole")
    return disk


def test_a_disk_that_is_full_or_read_only_from_any_write_on(tmp_path, disk):
    whole = made(tmp_path / "whole")
    last = max(number for number, name in enumerate(disk.names) if name == "replace")  # of the sidecar
    drawn = np.random.default_rng(0).choice(np.arange(1, last), 7, replace=False)
    for number, left in enumerate([0, *sorted(drawn.tolist()), last]):
        code = FULL[number % len(FULL)]

        def refuse(_, code=code):
            raise OSError(code, os.strerror(code))

        disk.after(left, refuse)
        with pytest.raises(OSError) as stopped:
            refined(tmp_path / str(left))
        assert stopped.value.errno == code and not (tmp_path / str(left) / "a.json").exists()
        disk.after(np.inf, None)
        refined(tmp_path / str(left))
        assert made(tmp_path / str(left)) == whole, f"full after {left} of {last} writes"


def test_a_folder_that_is_gone_is_not_made_again_by_halves(tmp_path, disk):
    names, whole = disk.names, made(tmp_path / "whole")
    first = names.index("write_store")
    for left in (9, first, first + 8, first + 20):  # while it is made, in either pass, and afterwards
        directory = tmp_path / str(left)

        def lose(number, directory=directory):
            if number == 1:
                shutil.rmtree(directory)

        disk.after(left, lose)
        with pytest.raises(FileNotFoundError):
            refined(directory)
        disk.after(np.inf, None)
        refined(directory)
        assert made(directory) == whole, f"gone after {left} writes"


@pytest.mark.parametrize(("free", "message"), [(3000, "NOT"), (50_000, "if nothing can be compressed"), (10**9, "")])
def test_what_is_free_is_looked_at_before_anything_is_written(tmp_path, monkeypatch, free, message):
    usage = shutil.disk_usage(tmp_path)._replace(free=free)
    monkeypatch.setattr(space.shutil, "disk_usage", lambda place: usage)
    said, job = [], label_job(tmp_path / "new")
    if message == "NOT":
        with pytest.raises(CannotGoOn, match=r"a: the exports.* take .*; make room.*--config.tiff_export=false"):
            refine_volume(job, None, refiner(), settings(**ASKED), said.append)
        assert not (tmp_path / "new").exists()
        given = settings(**ASKED | {"tiff_export": False})
        assert refine_volume(job, None, refiner(), given, said.append)
        return
    assert refine_volume(job, None, refiner(), settings(**ASKED), said.append)
    assert any("free in" in line for line in said) == bool(message)
    assert not message or any(line.startswith("warning: a: ") and message in line for line in said)


@pytest.fixture
def small(tmp_path):
    """A file system in memory, and what sets its size."""
    place = tmp_path / "small"
    place.mkdir()

    def mount(*how):
        command = ["mount", "-t", "tmpfs", *how, "tmpfs", str(place)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    tried = mount("-o", "size=40k")
    if tried.returncode:
        pytest.skip(f"no file system may be mounted here: {tried.stderr.strip()}")
    yield place, lambda size: mount("-o", f"remount,size={size}").check_returncode()
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_small_file_system_fills_up_and_is_made_larger(small, refine):
    place, resize = small
    given = ["--labels", "a_labels.tif", "--entropy", "stacks/a_entropy.tif", "--refiner", "mae"]
    given += ["--config.block=2,32,40", "--config.report=false"]
    assert refine(*given, "--output", "out")[0] == 0
    done = set()
    for size in ("40k", "120k", "160k", "200k", "240k"):
        resize(size)
        code, _, err = refine(*given, "--output", place)
        last = err.splitlines()[-1]
        assert (
            code == 1 and err.count("error: ") == 1 and last.startswith("error: a_labels: ") and "No space left" in last
        )
        done.add(len(list(place.rglob("progress/*/*.json"))))
        assert last.endswith("give the same command again: it goes on where it was")
        assert not (place / "a_labels.json").exists()
    assert len(done) > 1, "always full at the same moment"
    resize("100m")
    assert refine(*given, "--output", place)[0] == 0
    assert made(place) == made(place.parent / "out")
