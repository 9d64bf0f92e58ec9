"""The wheel in an environment of its own, away from the checkout: every command, the configs, the functions."""

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

SCRIPTS = "Scripts" if os.name == "nt" else "bin"


@pytest.fixture(scope="module")
def installed(root, tmp_path_factory):
    """installed("maeref", …) in an empty folder, from an environment that holds the wheel and knows no checkout."""
    folder = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    wheel = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, copy_of(root, folder / "source")]
    subprocess.run([*pip, *wheel], check=True, capture_output=True)
    venv.create(folder / "environment", with_pip=False)
    python = folder / "environment" / SCRIPTS / "python"
    where = [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = subprocess.run(where, capture_output=True, text=True, check=True)
    # What the package needs is taken from where the tests run; a .pth file brings no editable checkout along.
    Path(site.stdout.strip(), "needed.pth").write_text(sysconfig.get_path("purelib"))
    subprocess.run(
        [*pip, "--python", python, "install", "--no-deps", "--no-index", *folder.glob("*.whl")],
        check=True,
        capture_output=True,
    )
    empty = folder / "empty"
    empty.mkdir()
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def start(program, *arguments, code=0):
        command = [folder / "environment" / SCRIPTS / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=empty, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    start.folder = empty
    return start


def copy_of(root, folder):
    """What git would clone, as far as a wheel is made of it: building leaves files beside the sources."""
    import shutil

    folder.mkdir()
    for name in ("pyproject.toml", "setup.py", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(root / name, folder)
    for name in ("maeref_jax", "configs"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_the_three_commands_in_an_empty_folder(installed):
    said = installed("python", "-c", "import maeref_jax; print(maeref_jax.__file__)")
    assert "environment" in said
    installed("maeref", "train", "--config", "mae:smoke", "--workdir", "runs/mae")
    made = "from maeref_jax.phantoms.phantom import phantom; from maeref_jax.volumes.volume import write_tiff; "
    made += "p = phantom(100, (3, 64, 64), (20.0, 10.0, 10.0)); write_tiff('cell.tif', p.image, p.voxel_size_nm)"
    installed("python", "-c", made)
    models = ["--ensemble", "runs/mae/ensemble", "--refiner", "runs/mae"]
    installed("maeref", "refine", "--input", "cell.tif", *models, "--output", "refined", "--config", "refine:smoke")
    assert (installed.folder / "refined" / "cell.json").is_file()
    (installed.folder / "runs" / "ensemble").symlink_to("mae/ensemble")
    installed("maeref", "evaluate", "--config", "evaluate:smoke", "--workdir", "runs")
    assert (installed.folder / "runs" / "report.html").is_file()


def test_what_is_there_and_what_is_not(installed):
    assert "import-original" in installed("maeref", "--help")
    assert installed("maeref", "--version").startswith("maeref_jax ")
    assert "usage: maeref refine" in installed("maeref", "refine", "--help")
    assert "did you mean 'refine'" in installed("maeref", "refien", code=2)
    assert "did you mean 'ensemble'" in installed("maeref", "train", "--config", "ensembel", "--workdir", "w", code=2)
    # As the documents of a checkout print it.
    missing = installed("maeref", "train", "--config", "configs/mae.py", "--workdir", "w", code=2)
    assert "the package carries one: --config mae" in missing
    assert "usage: maeref train" in installed("python", "-m", "maeref_jax.commands", "train", "--help")


def test_a_config_of_ones_own_builds_on_those_of_the_package(installed):
    own = "from configs import mae\n\nMODES = ('',)\n\n\ndef get_config(mode):\n    config = mae.get_config('smoke')\n"
    (installed.folder / "mine.py").write_text(own + "    config.seed = 7\n    return config\n")
    said = installed("maeref", "train", "--config", "mine.py", "--workdir", "w", "--config.steps=0", code=2)
    assert "steps must be at least 1" in said


@pytest.mark.parametrize(
    "argument", [["--help"], ["refine", "--help"], ["refine", "--nothing"], ["train", "--config", "x"]]
)
def test_help_and_mistakes_are_answered_without_jax(argument):
    code = "import sys\nsys.argv = ['maeref', *sys.argv[1:]]\nfrom maeref_jax.commands.main import start\n"
    code += "try:\n    start()\nfinally:\n    print('jax' in sys.modules)\n"
    done = subprocess.run([sys.executable, "-c", code, *argument], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == "False", done.stdout


def test_refining_begins_without_what_it_may_never_need():
    """Importing these takes longer than the first block of a small volume, and fifty megabytes."""
    rooms = "commands.refine, maeref_jax.commands.load_models, maeref_jax.pipeline.refining, maeref_jax.audit.stain"
    code = f"import sys, maeref_jax.{rooms}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    late = {"optax", "matplotlib", "skimage.measure"} | {f"scipy.{part}" for part in ("ndimage", "sparse", "spatial")}
    assert not late & set(done.stdout.split())
