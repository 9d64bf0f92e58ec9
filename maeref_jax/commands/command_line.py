"""What the commands share: flags, config files with typed overrides, exit codes.

Exit codes: 0 done, 1 some inputs failed (returned by the command), a run that could not go on, or a bug (traceback),
2 bad usage or bad input, 129 its terminal was closed (SIGHUP), 130 interrupted (Ctrl-C), 141 nobody reads any more what
it prints, 143 terminated (SIGTERM).
"""

import argparse
import ast
import difflib
import importlib.util
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
from ml_collections import ConfigDict

import maeref_jax
from maeref_jax.commands import system_errors, terminal
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.training import interrupt
from maeref_jax.volumes.voxel_size import checked_size

_OVERRIDE = "--config."
_PACKAGE = Path(maeref_jax.__file__).parent
# An installed package carries the configs; in a checkout they lie beside it.
CONFIGS = next(place for place in (_PACKAGE / "configs", _PACKAGE.parent / "configs") if place.is_dir())


def load_config(spec: str, overrides: Iterable[str] = ()) -> ConfigDict:
    """The settings of one experiment.

    Args:
        spec: "PATH.py" or "PATH.py:MODE"; or "NAME" or "NAME:MODE", a config that the package carries. The file
            defines `MODES` (a tuple of mode names, "" the default) and `get_config(mode) -> ConfigDict`.
        overrides: "--config.group.key=value", as typed by the user. The value is read as the type that the
            key already has; tuples may be written "(1, 2)", "1,2" or "a,b"; "none" clears a placeholder.

    Returns:
        The config, its keys locked.

    Raises:
        BadInput: no such file, mode or key, or a value of the wrong type.
    """
    path, mode = _split_spec(spec)
    module = _load_module(path)
    if mode not in module.MODES:
        modes = ", ".join(f"'{path.name}:{name}'" if name else f"'{path.name}'" for name in module.MODES)
        raise BadInput(f"{path} has no mode '{mode}'; use one of {modes}{did_you_mean(mode, module.MODES)}")
    config = module.get_config(mode)
    config.lock()
    for override in overrides:
        _override(config, override)
    return config


def is_workdir(text: str) -> bool:
    """Whether there is a model in that folder."""
    return (Path(text) / "config.json").is_file()


def settings_in(workdir: str) -> dict:
    """What its model was trained with, without waiting for jax; {} where that cannot be read, which loading it says."""
    try:
        found = json.loads((Path(workdir) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found.get("config", {}) if isinstance(found, dict) else {}


def is_packaged(text: str) -> bool:
    """Whether that is the name of a config of the package, "NAME" or "NAME:MODE", and of no workdir."""
    name = text.partition(":")[0]
    return not is_workdir(text) and name.isidentifier() and (CONFIGS / f"{name}.py").is_file()


def names_of(overrides: Iterable[str]) -> set[str]:
    """The settings that overrides "--config.group.key=value" set, "group.key"."""
    return {override.removeprefix(_OVERRIDE).partition("=")[0] for override in overrides}


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser whose usage errors are `BadInput` (one line, exit code 2); no abbreviations."""
    return _Parser(description=description, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)


READING = {
    "axes": ("ZYX", "axes as stored, for files that do not say; they win over the file's own"),
    "voxel_size_nm": ("Z,Y,X", "for files that do not say; it wins over the file's own"),
    "at_voxel_size_nm": (
        "Z,Y,X",
        "work at this voxel size; refine brings results back to the files' own",
    ),
    "channel": ("N|NAME", "which channel, of files that have several: index from 0, or name"),
    "unpacked_gb": ("N", "what a packed file may become on disk, in TMPDIR (default 16)"),
    "piece_gb": ("N", "memory for what is unpacked at once, a chunk or a plane (default 0.5)"),
    "follow_links": (None, "let files lead to files outside of themselves: links, detached data, parts of HDF5"),
}


SIZES = ("voxel_size_nm", "at_voxel_size_nm")


def add_reading_flags(flags: argparse.ArgumentParser, refused: Sequence[str] = ()) -> None:
    """The flags that say how a user's files are read, for every command that is given some: see volumes/dataset.py.
    refused: those that the command has an answer to, and no use for: --help does not show them.
    """
    for name, (value, what) in READING.items():
        kind = {"metavar": value} if value else {"action": "store_true", "default": None}
        flags.add_argument(f"--{name}", help=argparse.SUPPRESS if name in refused else what, **kind)


def reading_overrides(arguments: argparse.Namespace, group: str) -> list[str]:
    """The reading flags that were given, as overrides of a group of the config ("data."), or of the config itself ("").
    Raises BadInput for what is no voxel size.
    """
    for name in SIZES:
        if (text := getattr(arguments, name)) is not None:
            checked_size(_read_tuple(text, (1.0,) * 3, f"--{name} Z,Y,X"), f"--{name} Z,Y,X")
    given = {name: getattr(arguments, name) for name in READING if getattr(arguments, name) is not None}
    return [f"{_OVERRIDE}{group}{name}={value}" for name, value in given.items()]


def parse(flags: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Parses `argv` into the flags and the config overrides ("--config.key=value" or "--config.key value").

    Raises:
        BadInput: an unknown or missing flag, or an override without a value.
    """
    own, overrides = [], []
    arguments = iter(argv)
    for argument in arguments:
        if not argument.startswith(_OVERRIDE):
            own.append(argument)
        elif "=" in argument:
            overrides.append(argument)
        else:
            value = next(arguments, None)
            if value is None:
                raise BadInput(f"{argument} needs a value: {argument}=VALUE")
            overrides.append(f"{argument}={value}")
    return flags.parse_args(own), overrides


def parse_flags(flags: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """As `parse`, for a command without a config: an override is refused."""
    arguments, overrides = parse(flags, argv)
    if overrides:
        raise BadInput(f"{overrides[0]}: this command has no config to change (--help lists its flags)")
    return arguments


def run(main: Callable[[list[str]], int | None]) -> NoReturn:
    """Runs a command's `main(argv)` and exits with its code (see the module's docstring)."""
    terminal.prepare()
    with interrupt.answered():
        try:
            code = main(sys.argv[1:])
        except BadInput as error:
            print(f"error: {error}", file=sys.stderr)
            code = 2
        except CannotGoOn as error:
            print(f"error: {error}", file=sys.stderr)
            code = 1
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            code = 130
        except BrokenPipeError:
            terminal.fall_silent()
            code = 141
        except Exception as error:  # what the system is not the reason of is a bug, and keeps its traceback
            reason = system_errors.explained(error)
            if reason is None:
                raise
            print(f"error: {reason}", file=sys.stderr)
            code = 1
        sys.exit(code or 0)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = re.findall(r"--[\w.]+", message) if "unrecognized arguments" in message else []
        known = [option for action in self._actions for option in action.option_strings]
        hint = did_you_mean(unknown[0], known) if unknown else ""
        if "unrecognized arguments" in message and not unknown:
            hint = "; a name with blanks, or a pattern like '*.tif', needs quotes"
        raise BadInput(f"{message}{hint} (--help lists the flags)")


def _split_spec(spec: str) -> tuple[Path, str]:
    """(file, mode). A bare name is one of the configs that the package carries."""
    match = re.fullmatch(r"(.+\.py)(?::(.*))?", spec)
    if match is None:
        match = re.fullmatch(r"(\w+)(?::(.*))?", spec)
        if match is None:
            raise BadInput(f"a config is given as NAME, NAME:MODE, PATH.py or PATH.py:MODE, found '{spec}'")
        path = CONFIGS / f"{match[1]}.py"
        if not path.is_file():
            names = [file.stem for file in sorted(CONFIGS.glob("[!_]*.py"))]
            listing = f"; there are {', '.join(names)}, or give a file as PATH.py"
            raise BadInput(f"no config is called '{match[1]}'{listing}{did_you_mean(match[1], names)}")
        return path, match[2] or ""
    path = Path(match[1])
    if not path.is_file():
        siblings = [str(sibling) for sibling in sorted(path.parent.glob("*.py"))]
        listing = f"; there are {', '.join(siblings)}" if siblings else ""
        known = f"; the package carries one: --config {path.stem}" if (CONFIGS / path.name).is_file() else ""
        raise BadInput(f"no config file {path}{known or listing}{did_you_mean(str(path), siblings)}")
    return path, match[2] or ""


def _load_module(path: Path) -> ModuleType:
    """The config file as a module. `from configs import NAME` in it finds the files beside it, then the package's."""
    location = importlib.util.spec_from_file_location(f"maeref_config_{path.stem}", path)
    module = importlib.util.module_from_spec(location)
    _forget_configs()  # of a file that lay elsewhere
    beside = ModuleType("configs")
    beside.__path__ = [str(path.resolve().parent), str(CONFIGS)]
    sys.modules["configs"] = beside
    try:
        location.loader.exec_module(module)
    except SyntaxError as error:
        raise BadInput(f"the config {path} is not valid Python: {error}") from error
    finally:
        _forget_configs()
    if not (hasattr(module, "get_config") and hasattr(module, "MODES")):
        raise BadInput(f"{path} is no config: it must define MODES and get_config(mode)")
    return module


def _forget_configs() -> None:
    for name in [name for name in sys.modules if name == "configs" or name.startswith("configs.")]:
        del sys.modules[name]


def _override(config: ConfigDict, override: str) -> None:
    name, _, text = override.removeprefix(_OVERRIDE).partition("=")
    *groups, key = name.split(".")
    group = config
    for depth, part in enumerate(groups):
        group = _known(group, part, ".".join(groups[:depth]))[part]
        if not isinstance(group, ConfigDict):
            raise BadInput(f"--config.{name}: '{part}' is a single setting, it has no key '{key}'")
    _known(group, key, ".".join(groups))
    old = group[key]
    if isinstance(old, ConfigDict):
        keys = ", ".join(f"--config.{name}.{inner}" for inner in old)
        raise BadInput(f"--config.{name} is a group of settings; set one of {keys}")
    group[key] = _read(text, old, group.get_type(key), f"--config.{name}")


def set_value(config: ConfigDict, name: str, value: Any) -> None:
    """Sets a setting of that name to a value from Python: of its type, a numpy number, or the words that would be typed
    for it. Raises BadInput for anything else.
    """
    value = value.item() if isinstance(value, np.generic) else value
    kind = config.get_type(name)
    if isinstance(value, str) and kind is not str:
        value = _read(value, config[name], kind, f"the setting {name}")
    try:
        config[name] = value
    except (TypeError, ValueError) as error:
        words = {tuple: "a tuple", int: "a whole number", float: "a number", bool: "True or False", str: "a text"}
        raise BadInput(f"the setting {name} is {value!r}, expected {words[kind]}") from error


def _known(group: ConfigDict, key: str, where: str) -> ConfigDict:
    if key not in group:
        place = f"'{where}' of the config" if where else "the config"
        raise BadInput(f"{place} has no key '{key}'; it has {', '.join(group)}{did_you_mean(key, list(group))}")
    return group


def _read(text: str, old: Any, kind: type, flag: str) -> Any:
    """`text` as a value of type `kind`; the elements of `old`, the present value, tell those of a tuple."""
    if old is None and text.lower() == "none":
        return None
    if kind is bool:
        if text.lower() not in ("true", "false", "1", "0"):
            raise BadInput(f"{flag} must be true or false, found '{text}'")
        return text.lower() in ("true", "1")
    if kind is tuple:
        return _read_tuple(text, old or (), flag)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            expected = "a whole number" if kind is int else "a number"
            raise BadInput(f"{flag} must be {expected}, found '{text}'") from None
    if kind is str:
        return text
    raise BadInput(f"{flag} holds a {kind.__name__}, which cannot be given on the command line; edit the config file")


def _read_tuple(text: str, old: tuple, flag: str) -> tuple:
    try:
        value = ast.literal_eval(text) if text.strip() else ()
    except (ValueError, SyntaxError):
        value = tuple(part.strip() for part in text.strip().removesuffix(",").split(","))  # "a," is a tuple of one
    value = tuple(value) if isinstance(value, tuple | list) else (value,)
    kinds = {type(element) for element in old}
    if len(kinds) != 1:
        return value
    (kind,) = kinds
    # A number may stand for itself in a tuple of floats (2 for 2.0) or of names ("1" for a stem).
    if kind is float or kind is str:
        value = tuple(kind(element) if isinstance(element, int | float) else element for element in value)
    if any(type(element) is not kind for element in value):
        raise BadInput(f"{flag} must be a tuple of {kind.__name__} like {old}, found '{text}'")
    return value


def did_you_mean(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
