"""A worker's command under watch: it ends as it likes, or when the process that started it is gone."""

import os
import subprocess
import sys
import time

from maeref_jax.pipeline import watched

HERE = [sys.executable, "-S", "-E", watched.__file__]


def test_what_the_command_ends_with_is_told():
    for code in ("import sys; sys.exit(7)", "import os; os.kill(os.getpid(), 9)"):
        ended = subprocess.run([*HERE, str(os.getpid()), sys.executable, "-S", "-c", code], check=False)
        assert ended.returncode == (7 if "exit" in code else 128 + 9)


def test_it_ends_with_its_parent_even_where_it_does_not_listen(tmp_path):
    deaf = "import os, signal, time; signal.signal(15, signal.SIG_IGN); print(os.getpid(), flush=True); time.sleep(60)"
    parent = f"""
import os, subprocess, sys
subprocess.Popen([{", ".join(map(repr, HERE))}, str(os.getpid()), sys.executable, "-S", "-c", {deaf!r}])
sys.stdin.read(1)
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-S", "-c", parent], **pipes) as process:
        worker = int(process.stdout.readline())
        process.kill()
        began = time.monotonic()
        while os.path.exists(f"/proc/{worker}") and time.monotonic() - began < 20:
            time.sleep(0.05)
        assert time.monotonic() - began < 10
