"""The floors of the house, read from the imports themselves: a file imports only from below, rooms not sideways."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "maeref_jax"
FLOORS = {
    "errors": 0, "records": 0, "volumes": 0, "tokens": 0, "entropy": 0, "intensities": 0, "metrics": 0, "": 0,
    "batches": 1, "masking": 1, "confidence": 1, "augmentation": 1, "symmetries": 0, "filling": 1, "original_rules": 1,
    "threads": 0, "slices": 0,
    "deterioration": 1, "models": 2, "masked_training": 2, "roles": 2,
    "blockwise": 3, "audit": 3, "objects": 3, "parts": 3, "workers": 3, "trust": 3, "stain": 3,
    "segmenters": 3, "refiners": 3, "training": 3,
    "jobs": 4, "report": 4, "original": 4, "passes": 5, "pipeline": 6,
    "experiment": 7, "train_settings": 7, "evaluation": 8, "doubt": 7, "refining": 8,
    "degradation": 7, "realism": 7, "command_line": 7,
    # commands: python -m maeref_jax.…
    "parameter_search": 8, "calibrate": 8, "export_member": 8, "out_of_fold": 8, "render": 8, "import_original": 8,
}  # fmt: skip
SAME_ROOM_ALLOWED = {"volumes", "models", "training", "metrics", "original", "evaluation", "report", "refining"}
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else ""


def place(path):
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return parts[0] if parts[0] != "__init__" else ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_from_below(path):
    here = place(path)
    for module in imports(path):
        if not module.startswith("maeref_jax."):
            continue
        there = room(module)
        if there == here:
            assert here in SAME_ROOM_ALLOWED, f"{path.name}: siblings of {here}/ never import one another"
            continue
        below = FLOORS[there] < FLOORS[here]
        floor_zero = FLOORS[there] == FLOORS[here] == 0 and there in ("errors", "records")
        assert below or floor_zero, f"{path.name} on floor {FLOORS[here]} imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_libraries_stay_in_their_rooms(path):
    roots = {module.split(".")[0] for module in imports(path)}
    here = place(path)
    assert not roots & {"torch", "tensorflow"}
    if here in ("volumes", "metrics"):
        assert not roots & {"jax", "flax", "optax"}, "voxels and numbers need no accelerator"
    if here != "command_line":
        assert "ml_collections" not in roots


def test_no_file_is_a_drawer_and_none_outgrows_its_room():
    for path in FILES:
        assert path.stem not in ("utils", "util", "helpers", "misc")
        assert len(path.read_text().splitlines()) <= 400, f"{path.name}: is there a second room inside?"
    for path in ROOT.glob("*.py"):
        assert len(path.read_text().splitlines()) <= 200, f"{path.name}: a newcomer begins to read here"


def test_every_file_says_what_it_is():
    for path in [*FILES, *ROOT.glob("*.py"), *(ROOT / "configs").glob("*.py")]:
        if path.stat().st_size:
            assert ast.get_docstring(ast.parse(path.read_text())), f"{path} has no docstring"
