"""Any shell and any system: what Windows lacks is not imported, and no terminal is too poor for what is printed."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from maeref_jax.commands import command_line, requests
from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import open_volume

# What there is on Linux and macOS only, as import finds it there.
ABSENT = "import sys\nfor name in ('resource', 'fcntl', 'pwd', 'grp', 'termios'): sys.modules[name] = None\n"
EVERY_MODULE = """
import importlib, pkgutil, maeref_jax
for found in pkgutil.walk_packages(maeref_jax.__path__, "maeref_jax."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
"""
NEAREST = """
import numpy as np
from maeref_jax.commands import command_line, refine, train
from maeref_jax.volumes.volume import write_tiff
for name in ("labels", "hidden"):
    write_tiff(f"{name}.tif", np.eye(64, dtype=np.uint8)[None].repeat(3, 0) * (name == "hidden"), (30.0, 8.0, 8.0))
train.main(["--config", "nearest", "--workdir", "nearest"])
sys.argv[1:] = "--labels labels.tif --hidden hidden.tif --refiner nearest --output out --dry_run".split()
command_line.run(refine.main)
"""
TABLE = """
from maeref_jax.commands import command_line
from maeref_jax.report.table import Table, text_table
table = Table("Ärger → 5 × 6 …", ("name", "nm³"), [("µm ± σ", "≥ 1")], "—")
command_line.run(lambda argv: print(text_table(table)))
"""


def run(script, folder, encoding, *flags):
    environment = {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, *flags, "-c", ABSENT + script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, check=False)


def test_every_module_is_imported_without_what_windows_lacks(tmp_path):
    done = run(EVERY_MODULE, tmp_path, "cp1252")
    assert done.returncode == 0, done.stderr


def test_a_plan_without_resource_counts_no_more_windows_than_there_are(tmp_path):
    done = run(NEAREST, tmp_path, "cp1252")
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode("cp1252")
    line = next(line for line in said.splitlines() if "windows to compute" in line)
    computed, everything = (int(word.replace(",", "")) for word in line.split() if word[0].isdigit())
    assert 0 < computed <= everything
    assert "not estimated" in said and "  0 s" not in said


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "cp437", "utf-8"])
def test_tables_are_printed_on_any_terminal(tmp_path, encoding):
    done = run(TABLE, tmp_path, encoding)
    assert done.returncode == 0, done.stderr
    said = done.stdout.decode(encoding)
    assert ("Ärger → 5 × 6 …" if encoding == "utf-8" else "rger -> 5") in said
    assert encoding != "ascii" or ("?rger -> 5 x 6 ..." in said and "um +- ?" in said and "---" in said)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
@pytest.mark.parametrize(
    "command", ["train", "refine", "evaluate", "calibrate", "render", "sample-labels", "import-original"]
)
def test_help_is_printed_on_any_terminal(tmp_path, encoding, command):
    script = f"from maeref_jax.commands import main\nsys.argv[1:] = [{command!r}, '--help']\nmain.start()"
    done = run(script, tmp_path, encoding)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
@pytest.mark.parametrize(("name", "code"), [(b"\xc3\xbc", 0), (b"bad\xff", 2)])
def test_a_workdir_of_any_name_under_a_locale_that_knows_no_letters(tmp_path, name, code):
    """TensorStore knows UTF-8 alone: Python starts again with it, without HOME and TMPDIR; bytes are refused."""
    script = (
        "import sys; from maeref_jax.commands import main; main._speak_utf8(); print(ascii(sys.argv[-1])); main.start()"
    )
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[2]), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", script, "train", "--config", "nearest", "--voxel_size_nm", "30,8,8", "--workdir"]
    done = subprocess.run([*command, name], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == code, done.stderr
    assert code or (done.stdout.startswith(b"'\\xfc'") and (tmp_path / "\u00fc" / "config.json").is_file())
    assert not code or (b"its name is not in UTF-8" in done.stderr and not list(tmp_path.iterdir()))


def test_what_is_printed_is_there_at_once(tmp_path):
    """Into a pipe too: who is killed has said what he said."""
    script = "import os\nfrom maeref_jax.commands import command_line\n"
    script += "command_line.run(lambda argv: (print('said'), os._exit(3)))"
    done = run(script, tmp_path, "utf-8")
    assert (done.returncode, done.stdout) == (3, b"said\n")


@pytest.mark.parametrize("spec", ["C:\\runs\\mae.py", "C:\\runs\\mae.py:demo", "C:/runs/mae.py:demo"])
def test_a_drive_letter_is_no_mode(spec):
    """There is no such file here; on Windows it would be read."""
    path = spec.partition(".py")[0]
    with pytest.raises(BadInput, match="no config file") as found:
        command_line.load_config(spec)
    assert f"{path}.py" in str(found.value)


def test_a_pattern_that_names_a_folder_is_not_looked_for_beside_the_input():
    assert requests.fill_in(str(Path("more", "{stem}.tif")), "labels", "stacks/a.tif", True) == "more/a.tif"
    assert requests.fill_in("{stem}_x.tif", "labels", "stacks/a.tif", True) == "stacks/a_x.tif"


def test_text_files_are_utf8_everywhere():
    """Without a word about it Python takes the system's code page."""
    for path in (Path(__file__).parents[2] / "maeref_jax").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(call, ast.Call):
                continue
            name = getattr(call.func, "attr", getattr(call.func, "id", ""))
            modes = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            text = name == "read_text" or (name == "write_text" and len(call.args) == 1)
            text |= name == "open" and any(mode in ("r", "w", "a", "x") for mode in modes)
            if text:
                assert any(keyword.arg == "encoding" for keyword in call.keywords), f"{path}:{call.lineno}"


@pytest.mark.parametrize("folder", [None, "elsewhere"])
def test_public_data_that_are_missing_have_an_address(monkeypatch, folder):
    monkeypatch.delenv("MAEREF_DATA", raising=False)
    if folder:
        monkeypatch.setenv("MAEREF_DATA", folder)
    config = command_line.load_config("ensemble_vnc_sstem:smoke")
    with pytest.raises(BadInput, match=r"no such file: .*vnc_sstem.*MAEREF_DATA.*https://doi\.org.*set MAEREF_DATA"):
        open_volume(config.data.train["images"][0])
    with pytest.raises(BadInput) as found:
        open_volume("mine/image.tif")
    assert "MAEREF_DATA" not in str(found.value)


def test_every_public_config_says_where_its_data_are(root):
    for path in (root / "configs").glob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "MAEREF_DATA=FOLDER" in text and "public(" in text:
            said = ast.get_docstring(ast.parse(text))
            assert "https://" in said or "their configs say" in said or "are those of" in said, path
