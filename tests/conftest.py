"""What several tests share: where real data may be found, and the repository's root."""

import functools
import io
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import redirect_stderr, redirect_stdout
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

# The first example compiles; a deadline would time the compiler.
settings.register_profile("maeref", deadline=None, max_examples=25)
settings.load_profile("maeref")
ROOT = Path(__file__).parent.parent
# What is compiled once serves all tests, in all workers and in the programs they start: it is most of the time.
# It is not optimised, because it runs for seconds. Set before any module of tests can wake the compiler.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:  # a worker finds that of its session
    COMPILED = tempfile.TemporaryDirectory(prefix="maeref_jax_tests_")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**31)  # with a limit jax locks the folder; it needs filelock
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
FLAGS = ["--xla_backend_optimization_level=0", "--xla_llvm_disable_expensive_passes=true"]
FLAGS.append("--xla_cpu_parallel_codegen_split_count=1")  # parts are for idle cores, and cost a fifth more in all
if metadata.version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10.")):
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")  # those before them compile in half the time, until 0.11
os.environ["XLA_FLAGS"] = " ".join(FLAGS)


# A shell that runs the tests in the background has Ctrl-C ignored, and what the tests start would ignore it, too.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) == signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL if number == signal.SIGHUP else signal.default_int_handler)

# A file belongs to one worker, as its fixtures do. What takes longest starts first, so that no worker is left alone
# with it at the end; what trains the same models comes later, when the first one has compiled them.
LONGEST = ("test_notebooks.py", "test_refiner_mae.py", "test_loop.py", "test_parallel.py", "test_ensemble.py")
LONGEST += ("test_train.py", "test_installed.py", "test_competitors.py", "test_ensemble_workdir.py")


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def real_data():
    """The folder of real microscopy; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("MAEREF_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set MAEREF_DATA)")
    return folder


@pytest.fixture(scope="session")
def run():
    """run("train.py", …) or run("maeref", "render", …): a command as a user types it in the root, without a process of
    its own, which would import jax again. Warnings are errors. What comes back is what subprocess.run gives.
    """
    from maeref_jax.commands.main import start

    def call(program, *arguments):
        command = [program, *map(str, arguments)]
        out, err = io.StringIO(), io.StringIO()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.chdir(ROOT)
            patch.setattr(sys, "argv", command)
            with pytest.raises(SystemExit) as exit_:
                start("" if program == "maeref" else program.removesuffix(".py"))
        for number, handler in handlers.items():
            signal.signal(number, handler)
        return subprocess.CompletedProcess(command, exit_.value.code, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def run_process():
    """As `run`, in a process of its own: for what only a new interpreter shows."""

    def start(*arguments):
        command = [sys.executable, "-W", "error", *map(str, arguments)]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    return start


@pytest.fixture(scope="session")
def smoke(run, tmp_path_factory):
    """The workdir of a masked autoencoder trained in smoke mode; its ensemble lies in smoke / "ensemble". To be read
    only: whichever worker asks first trains it, for all of them.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    workdir = folder / "smoke" / "mae"
    with FileLock(folder / "smoke.lock"):
        if not (workdir / "model_card.md").exists():
            done = run("train.py", "--config", "configs/mae.py:smoke", "--workdir", workdir)
            assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def stacks(tmp_path, monkeypatch):
    """A working directory with three image stacks, their labels and entropy, and two workdirs of fake models."""
    from stacks import make_stacks

    monkeypatch.chdir(tmp_path)
    make_stacks(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def refine(stacks, monkeypatch, capsys):
    """refine(arguments) -> (exit code, stdout, stderr), through the same door as `python refine.py`, in `stacks`."""
    from maeref_jax.commands import command_line
    from maeref_jax.commands.refine import main

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["refine.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            command_line.run(main)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return exit_.value.code, out, err

    return call


@pytest.fixture
def models(monkeypatch):
    """Puts two closed-form models where trained workdirs would be."""
    import closed_form

    from maeref_jax.pipeline import methods

    found = closed_form.models()
    monkeypatch.setattr(methods, "load_model", lambda workdir, kind: found[kind])


@pytest.fixture
def server(tmp_path):
    """A folder served over http, as a public bucket is."""

    class Quiet(SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments):
            pass

    http = ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield f"http://localhost:{http.server_port}"
    http.shutdown()
    http.server_close()
