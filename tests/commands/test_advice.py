"""Advice that works: every flag and every setting that a message names is there, in each command that can say it."""

import ast
import importlib
import re

import pytest

from maeref_jax.commands import command_line
from maeref_jax.commands.command_line import CONFIGS, load_config
from maeref_jax.commands.main import COMMANDS
from maeref_jax.errors import BadInput
from maeref_jax.volumes.dataset import Given, given_of
from maeref_jax.volumes.formats.trust import Trust

ROOMS_OF_FILES = (
    "volumes",
    "samples",
)  # what reads a user's files; it can be asked by every command that is given some
READERS = ("train", "refine", "evaluate", "render")
# Rooms whose messages come from some commands alone; where these differ the message says what each of them has.
SPOKEN_BY = {
    "pipeline": ("refine", "evaluate"), "results": ("refine",), "training": ("train",), "evaluation": ("evaluate",),
    "original": ("import-original",),
}  # fmt: skip
NNUNET = ("--save_probabilities", "--save_npz")  # of its own commands
EXPERIMENTS = {
    "render": "render",
    "export_member": "export-member",
    "out_of_fold": "out-of-fold",
    "calibrate": "calibrate",
}


def messages(path):
    """All text in a file that is no docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documents = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            documents.add(id(node.body[0].value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documents:
            yield node.value


def flags_of(command, monkeypatch):
    """The flags of a command's parser."""
    known = []

    def stop(flags, argv):
        known.extend(option for action in flags._actions for option in action.option_strings)
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "parse", stop)
    monkeypatch.setattr(command_line, "parse_flags", stop)
    module = importlib.import_module(f"maeref_jax.commands.{command.replace('-', '_')}")
    with pytest.raises(KeyboardInterrupt):
        module.main([])
    return set(known)


def settings_of():
    """All keys of all configs, with dots."""
    found = set()

    def walk(tree, path=""):
        for key in tree:
            found.add(f"{path}{key}")
            if hasattr(tree[key], "keys"):
                walk(tree[key], f"{path}{key}.")

    for file in CONFIGS.glob("*.py"):
        for mode in getattr(importlib.import_module(f"configs.{file.stem}"), "MODES", ()):
            walk(load_config(f"{file}:{mode}"))
    return found


def test_flags_and_settings_that_messages_name_exist(root, monkeypatch):
    flags = {command: flags_of(command, monkeypatch) for command in COMMANDS}
    everywhere, settings, seen = set().union(*flags.values()), settings_of(), 0
    for path in sorted((root / "maeref_jax").rglob("*.py")):
        room = path.parent.name if path.parent.name != "formats" else "volumes"
        for text in messages(path):
            for setting in re.findall(r"--config\.([\w.]+\w)", text):
                assert any(s == setting or s.endswith(f".{setting}") for s in settings), f"{path}: {text}"
            # A message may name the command that its flags belong to.
            named = {command for pair in re.findall(r"maeref ([\w-]+)|(\w+)\.py", text) for command in pair} & {*flags}
            for flag in re.findall(r"(?<![\w-])--[a-z]\w+(?![\w.]*\.)", text):
                seen += 1
                others = {"--config", "--version", "--at", *NNUNET}
                assert flag in everywhere | others, f"{path}: no command has {flag}: {text}"
                if named:
                    assert any(flag in flags[command] for command in named), f"{path}: {text}"
                    continue
                if room in ROOMS_OF_FILES and flag not in ("--label_map", "--classes"):
                    lacking = [command for command in READERS if flag not in flags[command]]
                    assert not lacking, f"{path}: {lacking} cannot follow '{text}'"
                if room == "commands" and path.stem.replace("_", "-") in flags:
                    assert flag in flags[path.stem.replace("_", "-")] | {"--config"}, f"{path}: {text}"
                if room == "experiments" and path.stem in EXPERIMENTS:
                    assert flag in flags[path.stem.replace("_", "-")], f"{path}: {text}"
                if room in SPOKEN_BY:
                    can = [command for command in SPOKEN_BY[room] if flag in flags[command]]
                    assert can, f"{path}: {SPOKEN_BY[room]} cannot follow '{text}'"
    assert seen > 60, "else nothing was looked at"


@pytest.mark.parametrize("size", ["20,10", "20,0,10", "a,b,c", "20"])
def test_a_voxel_size_is_three_positive_numbers(size):
    flags = command_line.parser("")
    command_line.add_reading_flags(flags)
    with pytest.raises(BadInput, match="--voxel_size_nm Z,Y,X"):
        command_line.reading_overrides(flags.parse_args(["--voxel_size_nm", size]), "data.")


@pytest.mark.parametrize("config", ["mae", "ensemble", "crf"])
def test_what_is_said_of_files_reaches_the_settings_that_they_are_read_by(config):
    flags = command_line.parser("")
    command_line.add_reading_flags(flags)
    given = flags.parse_args(["--axes", "ZYXC", "--voxel_size_nm", "20,10,4.5", "--channel", "1", "--follow_links"])
    data = load_config(config, command_line.reading_overrides(given, "data.")).data
    assert given_of(data) == Given("ZYXC", (20, 10, 4.5), 1, Trust(follow_links=True))
    assert given_of(load_config(config).data) == Given(), "without flags the files decide"


@pytest.mark.parametrize("command", READERS)
def test_every_command_that_is_given_files_can_be_told_how_to_read_them(command, monkeypatch):
    assert {f"--{name}" for name in command_line.READING} <= flags_of(command, monkeypatch)
