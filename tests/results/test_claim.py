"""Work that one of several processes does: one gets it, it is never lost with its owner."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading

import pytest

from maeref_jax.errors import CannotGoOn
from maeref_jax.results import claim
from maeref_jax.results.claim import claimed


def test_one_of_many_gets_it(tmp_path):
    for attempt in range(20):
        won, barrier, leave = [], threading.Barrier(4), threading.Event()

        def one(attempt=attempt, won=won, barrier=barrier, leave=leave):
            barrier.wait()
            with claimed(tmp_path, f"work{attempt}") as ours:
                won.append(ours)
                leave.set() if len(won) == 4 else leave.wait(5)

        threads = [threading.Thread(target=one) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(won) == [False] * 3 + [True]


def test_given_up_by_an_error_it_can_be_claimed_again(tmp_path):
    for _ in range(3):
        try:
            with claimed(tmp_path, "work") as ours:
                assert ours
                raise OSError("disk full")
        except OSError:
            pass


def test_of_a_killed_process(tmp_path):
    """Its number may belong to another process by now, which then started at another time."""
    script = (
        "import sys, os, pathlib; from maeref_jax.results.claim import claimed\n"
        "with claimed(pathlib.Path(sys.argv[1]), 'work') as ours: print(ours, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == -9 and done.stdout == "True\n"
    with claimed(tmp_path, "work") as ours:
        assert ours
        with claimed(tmp_path, "work") as second:
            assert not second
    mine = {"host": socket.gethostname(), "process": os.getpid(), "started": "1"}
    (tmp_path / "other_1").write_text(json.dumps(mine))
    with claimed(tmp_path, "other") as ours:
        assert ours


def test_of_another_machine_it_is_kept_alive_by_touching(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT_S", 0.02)
    monkeypatch.setattr(claim, "STALE_S", 0.3)
    monkeypatch.setattr(socket, "gethostname", lambda: "first")
    with claimed(tmp_path, "work") as ours:
        assert ours
        monkeypatch.setattr(socket, "gethostname", lambda: "second")
        file = tmp_path / "work_1"
        past = file.stat().st_mtime - 5
        os.utime(file, (past, past))
        for _ in range(100):
            if file.stat().st_mtime > past:
                break
            threading.Event().wait(0.02)
        with claimed(tmp_path, "work") as second:
            assert not second
    (tmp_path / "slept_1").write_text(json.dumps({"host": "first", "process": 1, "started": "1"}))
    os.utime(tmp_path / "slept_1", (past, past))
    with claimed(tmp_path, "slept") as ours:
        assert ours and (tmp_path / "slept_2").exists()
    assert not list(tmp_path.glob(".*"))


def test_claims_do_not_pile_up_and_one_that_is_late_does_not_win(tmp_path, monkeypatch):
    for _ in range(30):
        with claimed(tmp_path, "work") as ours:
            assert ours
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"work_{number}" for number in range(30 - claim.KEPT, 31)}
    # Somebody looked long ago, and what he saw then was tidied away since.
    seen = iter([tmp_path / "work_3"])
    highest = claim._highest
    monkeypatch.setattr(claim, "_highest", lambda folder, name: next(seen, None) or highest(folder, name))
    monkeypatch.setattr(claim, "_gone", lambda path: True)
    with claimed(tmp_path, "work") as ours:
        assert not ours
    assert {path.name for path in tmp_path.iterdir()} == names


@pytest.mark.parametrize("theirs", ["", "[]", "3", '{"process": "../../1"}', '{"a":' * 100_000, '{"ended": 1}'])
def test_whatever_a_claim_holds_it_grows_stale(tmp_path, theirs):
    (tmp_path / "work_1").write_text(theirs)
    with claimed(tmp_path, "work") as ours:
        assert ours == ("ended" in theirs)
    os.utime(tmp_path / "work_1", (1e9, 1e9))
    with claimed(tmp_path, "work") as ours:
        assert ours


def test_who_is_not_alone_is_told_whom_he_meets(tmp_path):
    with claim.alone(tmp_path / "claims", "work", "it is being done"):
        with pytest.raises(CannotGoOn, match=f"it is being done, by process {os.getpid()} on {socket.gethostname()}"):
            claim.check_free(tmp_path / "claims", "work", "it is being done")
        shutil.copytree(tmp_path / "claims", tmp_path / "copied_while_it_worked")
    shutil.copytree(tmp_path / "claims", tmp_path / "copy", copy_function=shutil.copyfile)
    for folder in ("claims", "copy"):  # given up, which a copy by a stranger's tool keeps
        with claim.alone(tmp_path / folder, "work", "it is being done"):
            pass
    shutil.make_archive(str(tmp_path / "packed"), "zip", tmp_path / "claims")


def test_of_another_machine_one_waits_for_a_sign_of_life(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(claim, "BEAT_S", 0.02)
    monkeypatch.setattr(claim, "STALE_S", 0.3)
    other = {"host": "elsewhere", "process": 1, "started": "1"}
    (tmp_path / "work_1").write_text(json.dumps(other))
    with claim.alone(tmp_path, "work", "it is being done"):  # silent: it is gone
        assert "waiting whether" in capsys.readouterr().out
    monkeypatch.setattr(claim, "STALE_S", 60.0)
    (tmp_path / "work_3").write_text(json.dumps(other))
    living = threading.Timer(0.2, os.utime, [tmp_path / "work_3"])
    living.start()
    with pytest.raises(CannotGoOn, match="process 1 on elsewhere"):
        claim.check_free(tmp_path, "work", "it is being done")
