"""Work that one of several processes does: one gets it, it is never lost with its owner."""

import json
import os
import socket
import subprocess
import sys
import threading

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
