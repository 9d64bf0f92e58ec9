"""Config overrides are typed and checked; usage errors are one line and exit code 2."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput

CONFIG = """
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

MODES = ("", "smoke")

def get_config(mode=""):
    return ConfigDict({
        "steps": 10 if mode == "smoke" else 1000, "rate": 1e-3, "name": "mae", "fast": False,
        "limit": placeholder(int),
        "data": {"shape": (24, 160, 160), "seeds": (1,), "files": ("a",), "empty": (), "spacing": (1.0, 2.0),
                 "rows": ((1, 2), (3, 4))},
    })
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "experiment.py"
    path.write_text(CONFIG)
    return str(path)


def test_modes(spec):
    assert command_line.load_config(spec).steps == 1000
    assert command_line.load_config(spec + ":").steps == 1000
    assert command_line.load_config(spec + ":smoke").steps == 10
    with pytest.raises(BadInput, match=r"no mode 'smok'.*did you mean 'smoke'"):
        command_line.load_config(spec + ":smok")


@pytest.mark.parametrize(
    ("override", "read", "expected"),
    [
        ("steps=3", lambda c: c.steps, 3),
        ("rate=2", lambda c: c.rate, 2.0),
        ("rate=1e-4", lambda c: c.rate, 1e-4),
        ("name=12", lambda c: c.name, "12"),
        ("fast=true", lambda c: c.fast, True),
        ("fast=False", lambda c: c.fast, False),
        ("limit=4", lambda c: c.limit, 4),
        ("limit=none", lambda c: c.limit, None),
        ("data.shape=1,2,3", lambda c: c.data.shape, (1, 2, 3)),
        ("data.shape=(1, 2, 3)", lambda c: c.data.shape, (1, 2, 3)),
        ("data.seeds=7", lambda c: c.data.seeds, (7,)),
        ("data.seeds=", lambda c: c.data.seeds, ()),
        ("data.files=b.tif,c=d.tif", lambda c: c.data.files, ("b.tif", "c=d.tif")),
        ("data.files=b.tif,", lambda c: c.data.files, ("b.tif",)),
        ("data.files=1", lambda c: c.data.files, ("1",)),
        ("data.empty=x,y", lambda c: c.data.empty, ("x", "y")),
        ("data.spacing=4,5", lambda c: c.data.spacing, (4.0, 5.0)),
        ("data.rows=((5, 6),)", lambda c: c.data.rows, ((5, 6),)),
    ],
)
def test_override(spec, override, read, expected):
    value = read(command_line.load_config(spec, [f"--config.{override}"]))
    assert value == expected and type(value) is type(expected)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stepps=3", "no key 'stepps'.*did you mean 'steps'"),
        ("data.shap=3", "'data' of the config has no key 'shap'.*did you mean 'shape'"),
        ("dta.shape=3", "no key 'dta'.*did you mean 'data'"),
        ("steps.more=3", "'steps' is a single setting"),
        ("steps=3.5", "steps must be a whole number, found '3.5'"),
        ("rate=fast", "rate must be a number"),
        ("fast=2", "true or false"),
        ("data=3", "group of settings.*--config.data.shape"),
        ("data.shape=a,b", "tuple of int"),
        ("data.shape=1.5,2", "tuple of int"),
    ],
)
def test_bad_override(spec, override, message):
    with pytest.raises(BadInput, match=message):
        command_line.load_config(spec, [f"--config.{override}"])


def test_bad_file(tmp_path, spec):
    with pytest.raises(BadInput, match=r"no config file .*experimant.py.*did you mean .*experiment.py"):
        command_line.load_config(str(tmp_path / "experimant.py"))
    with pytest.raises(BadInput, match=r"PATH.py:MODE"):
        command_line.load_config("mae.yaml")
    with pytest.raises(BadInput, match=r"no config is called 'maee'.*did you mean 'mae'"):
        command_line.load_config("maee:smoke")
    (tmp_path / "broken.py").write_text("def get_config(:")
    with pytest.raises(BadInput, match="not valid Python"):
        command_line.load_config(str(tmp_path / "broken.py"))
    (tmp_path / "other.py").write_text("x = 1")
    with pytest.raises(BadInput, match="must define MODES"):
        command_line.load_config(str(tmp_path / "other.py"))


def test_parse():
    flags = command_line.parser("help")
    flags.add_argument("--input", nargs="+", required=True)
    arguments, overrides = command_line.parse(flags, ["--config.a", "-3", "--input", "x", "y", "--config.b.c=(1, 2)"])
    assert arguments.input == ["x", "y"]
    assert overrides == ["--config.a=-3", "--config.b.c=(1, 2)"]
    with pytest.raises(BadInput, match=r"--inptu.*did you mean '--input'"):
        command_line.parse(flags, ["--input", "x", "--inptu", "y"])
    with pytest.raises(BadInput, match="--inp"):  # no guessing of abbreviations
        command_line.parse(flags, ["--inp", "x"])
    with pytest.raises(BadInput, match=r"required: --input"):
        command_line.parse(flags, [])
    with pytest.raises(BadInput, match="needs a value"):
        command_line.parse(flags, ["--input", "x", "--config.a"])


def exit_of(body: str) -> tuple[int, str]:
    imports = "import os, signal\nfrom maeref_jax.commands import command_line\nfrom maeref_jax.errors import BadInput"
    script = f"{imports}\n{body}"
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=root,
        check=False,
    )
    return result.returncode, result.stderr


@pytest.mark.parametrize(
    ("body", "code", "stderr"),
    [
        ("command_line.run(lambda argv: None)", 0, ""),
        ("command_line.run(lambda argv: 1)", 1, ""),
        ("def main(argv): raise BadInput('give a file')\ncommand_line.run(main)", 2, "error: give a file\n"),
        ("def main(argv): raise KeyboardInterrupt\ncommand_line.run(main)", 130, "interrupted\n"),
        ("command_line.run(lambda argv: os.kill(os.getpid(), signal.SIGTERM))", 128 + signal.SIGTERM, ""),
    ],
)
def test_exit_codes(body, code, stderr):
    assert exit_of(body) == (code, stderr)


def test_bugs_keep_their_traceback():
    code, stderr = exit_of("command_line.run(lambda argv: {}['key'])")
    assert code == 1 and "Traceback" in stderr and "KeyError: 'key'" in stderr
