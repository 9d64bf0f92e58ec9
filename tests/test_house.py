"""The floors of the house, read from the imports themselves: a file imports only from below, rooms not sideways."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "maeref_jax"
# From the ground to the roof; no floor imports another room of its own.
FLOORS = (
    ("errors", "records", ""),
    ("masking", "uncertainty"),
    ("volumes", "models", "metrics"),
    ("phantoms", "results", "training"),
    ("samples", "audit"),
    ("segmenters", "refiners"),
    ("pipeline",),
    ("report",),
    ("evaluation", "experiments", "original"),
    ("commands",),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
ALONE = ("segmenters", "refiners")  # whose files never import a sibling
SHARED = {"refiners": {"masked_training"}}  # but for what several of them are made of
LOOSE = {"__init__", "errors", "records"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    parts = module.split(".")
    return parts[1] if parts[1] in FLOOR else ""


def place(path):
    return room(".".join(path.relative_to(ROOT).with_suffix("").parts))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_below(path):
    here = place(path)
    if path == PACKAGE / "__init__.py":
        return  # the public names, taken from everywhere
    for module in imports(path):
        if not module.startswith("maeref_jax."):
            continue
        there = room(module)
        if there == here:
            sibling = module.split(".")[2] if here else ""
            assert here not in ALONE or sibling in SHARED.get(here, ()), f"{path}: siblings never import one another"
        else:
            below = FLOOR[there] < FLOOR[here] or there in ("errors", "records")
            assert below, f"{path} on floor {FLOOR[here]} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path):
    roots = {module.split(".")[0] for module in imports(path)}
    here = place(path)
    assert not roots & {"torch", "tensorflow"}
    if here in ("volumes", "phantoms", "metrics", "results"):
        assert not roots & {"jax", "flax", "optax"}, "voxels and numbers need no accelerator"
    if here != "commands":
        assert "ml_collections" not in roots


def test_nothing_stands_loose_and_every_room_has_a_floor():
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(FLOOR) - {"errors", "records", ""}


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_the_rooms_that_the_documents_list_are_the_folders(document):
    listed = re.findall(r"^    maeref_jax/(\w+)/ ", (ROOT / document).read_text(encoding="utf-8"), re.MULTILINE)
    assert listed and [name for name in listed if listed.count(name) > 1] == []
    assert set(listed) == set(FLOOR) - {"errors", "records", ""}
    floors = [FLOOR[name] for name in listed]
    assert floors == sorted(floors), "they are read from the ground up"


def test_tests_have_the_same_rooms():
    for path in sorted((ROOT / "tests").glob("*/test_*.py")):
        assert (PACKAGE / path.parent.name).is_dir(), f"{path} tests no room"


def test_tests_of_two_rooms_have_two_names():
    """pytest imports them by their names alone."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []


def test_no_file_is_a_drawer_and_none_outgrows_its_room():
    for path in FILES:
        assert path.stem not in ("utils", "util", "helpers", "misc")
        assert len(path.read_text().splitlines()) <= 400, f"{path.name}: is there a second room inside?"
    for path in ROOT.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 20, f"{path.name}: it only opens the door of commands/"


def test_every_file_says_what_it_is():
    for path in [*FILES, *ROOT.glob("*.py"), *(ROOT / "configs").glob("*.py")]:
        if path.stat().st_size:
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
