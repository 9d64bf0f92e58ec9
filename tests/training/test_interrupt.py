"""A signal is answered within seconds whatever the process is at, with its exit code; training saves first."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

# Each says "ready" when it is about to be busy for a minute.
BUSY = {
    "a loop": "import time\nwhile True: time.sleep(0.01)",
    "one call in C": "import hashlib\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",
    "a thread that the end waits for": (
        "import time\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(1) as pool: pool.submit(time.sleep, 60)"
    ),
    "what drops exceptions": (
        "import gc, ctypes\n"
        "def late(phase, info):\n"
        "    if phase == 'start': ctypes.CDLL(None).usleep(700000)\n"
        "gc.callbacks.append(late)\n"
        "while True: gc.collect()"
    ),
    "importing what aborts on an exception": (
        "import pathlib, sys, tempfile\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    slow = 'import os, time\\ntry: time.sleep(60)\\nexcept BaseException: os.abort()'\n"
        "    pathlib.Path(folder, 'slow_to_import.py').write_text(slow)\n"
        "    sys.path.insert(0, folder)\n"
        "    import slow_to_import"
    ),
    "compiling": (
        "import jax, jax.numpy as jnp\n"
        "def deep(x):\n"
        "    for i in range(1500): x = jnp.sin(x) @ jnp.cos(x + i)\n"
        "    return x\n"
        "lowered = jax.jit(deep).lower(jnp.ones((8, 8)))\n"
        "print('ready', flush=True)\n"
        "lowered.compile()\nimport time; time.sleep(60)"
    ),
}


def busy(body):
    ready = "" if "ready" in body else "print('ready', flush=True)\n"
    lines = "".join(f"    {line}\n" for line in (ready + body).splitlines())
    script = f"from maeref_jax.commands import command_line\ndef main(argv):\n{lines}\ncommand_line.run(main)"
    return subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


ONE = "one call in C"


@pytest.mark.parametrize(
    ("what", "number"), [*((what, signal.SIGTERM) for what in BUSY), (ONE, signal.SIGINT), (ONE, signal.SIGHUP)]
)
def test_answered_at_once(what, number):
    process = busy(BUSY[what])
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.3)
    began = time.monotonic()
    process.send_signal(number)
    try:
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()  # else it would keep a processor busy for an hour
    assert process.returncode == 128 + number, error
    assert time.monotonic() - began < 5
    assert "Traceback" not in error.partition("Exception ignored")[0]


def test_temporary_files_are_removed_where_the_main_thread_can(tmp_path):
    body = f"import tempfile, time\nwith tempfile.TemporaryDirectory(dir={str(tmp_path)!r}): time.sleep(60)"
    process = busy(body)
    process.stdout.readline()
    time.sleep(0.3)
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143 and not list(tmp_path.iterdir())


FOR_LONG = "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"  # nothing of Python's runs in between
TRAINING = """
import hashlib, time
from maeref_jax.training.interrupt import Requests, agreed, answered
with answered(), Requests(0, True) as requests:
    for step in range(1000):
        if step == 0: print("compiling", flush=True)
        {compiling} if step == 0 else {stepping}
        requests.listen()
        if step == 0: print("training", flush=True)
        code, _ = agreed(requests.wishes(1).sum(0))
        if code: requests.leave(code, step + 1)
"""


@pytest.mark.parametrize("until", ["compiling", "training"])
def test_training_finishes_its_step_and_what_is_not_begun_is_left(until):
    compiling = "time.sleep(0.1)" if until == "training" else FOR_LONG
    script = TRAINING.format(compiling=compiling, stepping="time.sleep(2.5)")
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.stdout.readline().strip() != until:
        pass
    time.sleep(0.2)
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143
    assert ("saved at step 2" in error) == (until == "training"), error


def test_a_second_signal_does_not_wait_for_the_step():
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING.format(compiling="0", stepping=FOR_LONG)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.stdout.readline() != "training\n":
        pass
    began = time.monotonic()
    for _ in range(2):
        time.sleep(0.3)
        process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and time.monotonic() - began < 6 and "saved" not in error


def started(script):
    """A process of that script, once it has said "training"."""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    while process.stdout.readline() != "training\n":
        pass
    return process


def test_what_takes_longer_than_a_scheduler_waits_is_cut_off():
    script = TRAINING.format(compiling="0", stepping=FOR_LONG).replace("Requests(0, True)", "Requests(0, True, 1.0)")
    process = started(script)
    time.sleep(0.3)
    began = time.monotonic()
    process.terminate()
    _, error = process.communicate(timeout=30)
    assert process.returncode == 143 and time.monotonic() - began < 6
    assert "not saved within 1 s (checkpoint.patience_s); the same command continues" in error


def test_a_signal_after_the_last_step_is_not_lost():
    script = """
import os, signal
from maeref_jax.training.interrupt import Requests, answered
with answered():
    with Requests(0, True) as requests:
        requests.listen()
        os.kill(os.getpid(), signal.SIGTERM)
    print("went on")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 143 and "went on" not in done.stdout


def test_a_closed_terminal_saves_first_and_its_silence_stops_nothing():
    """What is printed on a terminal that is gone is an error of the system."""
    there, here = os.openpty()
    script = TRAINING.format(compiling="0", stepping="(time.sleep(0.3), print('a step', flush=True))")
    script = script.replace("requests.leave", "open(sys.argv[1], 'w').write('left'); requests.leave")
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", "import sys\n" + script, f"{folder}/left"]
        process = subprocess.Popen(command, stdout=here, stderr=here, stdin=here, start_new_session=True)
        os.close(here)
        said = b""
        while b"a step" not in said:
            said += os.read(there, 1000)
        os.close(there)  # the terminal is gone; whoever had it hears of it
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=30) == 129 and Path(folder, "left").exists()


def test_nohup_and_background_jobs_are_left_alone():
    script = TRAINING.format(compiling="0", stepping="time.sleep(0.1)")
    ignoring = "import signal\nfor name in ('SIGHUP', 'SIGINT'): signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    process = started(ignoring + script)
    for number in (signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
    time.sleep(1.5)
    assert process.poll() is None
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 143
