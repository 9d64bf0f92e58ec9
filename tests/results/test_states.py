"""Every state of an output folder: one line says what is wrong, a command gets out of it, nobody's files are touched.

docs/robustness.md has the same table in words; a test compares the two. What stands before the colon is its row there.
"""

import functools
import json
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT
from outputs import content, copied, half_finished
from outputs import run as run_blocks

from maeref_jax.commands import verify
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.results import output

run = functools.partial(run_blocks, block=(2, 32, 40))  # two of them
PROGRESS = "a.ome.zarr/progress"
DEEP = "[" * 100_000
FOREIGN = "was not made by refine.py"
CHANGED = "was damaged or changed after refine.py made it"
LOST = "is missing or damaged: what made it is not known; .*--overwrite"


class State(NamedTuple):
    """base: "whole", "begun" (all blocks are there, nothing else is) or "empty"; texts: files with what is written into
    them, None: it is removed; says: what the same command answers; out: how to get out of it, one of
    again (the command itself goes on), overwrite, move (the first of `texts`), repair; theirs: what must not be touched
    """

    base: str
    texts: dict[str, str | None]
    says: str
    out: str
    theirs: tuple[str, ...] = ()


STATES = {
    "nothing is there": State("empty", {}, "", "again"),
    "all is there": State("whole", {}, "complete already, nothing to do", "again"),
    # What the folder says of itself.
    "the same, of a complete output": State("whole", {f"{PROGRESS}/made_by.json": None}, "complete already", "again"),
    "`progress/made_by.json` is damaged or gone: gone": State(
        "begun", {f"{PROGRESS}/made_by.json": None}, LOST, "overwrite"
    ),
    "`progress/made_by.json` is damaged or gone: empty": State(
        "begun", {f"{PROGRESS}/made_by.json": ""}, LOST, "overwrite"
    ),
    "`progress/made_by.json` is damaged or gone: other": State(
        "begun", {f"{PROGRESS}/made_by.json": '{"mine": 1}'}, LOST, "overwrite"
    ),
    "`progress/made_by.json` is damaged or gone: deep": State(
        "begun", {f"{PROGRESS}/made_by.json": DEEP}, LOST, "overwrite"
    ),
    "`progress/made_by.json` is damaged or gone: all": State("begun", {PROGRESS: None}, LOST, "overwrite"),
    "`progress/made_by.json` is damaged or gone: a file": State("begun", {PROGRESS: "?"}, LOST, "overwrite"),
    "`progress/labels.json` or `progress/said.json` is damaged: {": State(
        "begun", {f"{PROGRESS}/labels.json": "{"}, "labels.json is damaged.*--over", "overwrite"
    ),
    "`progress/labels.json` or `progress/said.json` is damaged: other": State(
        "begun", {f"{PROGRESS}/labels.json": '{"labels": {"x": 1}}'}, "labels.json is damaged", "overwrite"
    ),
    "`progress/labels.json` or `progress/said.json` is damaged: said": State(
        "begun", {f"{PROGRESS}/said.json": "[1]"}, "said.json is damaged.*--over", "overwrite"
    ),
    "another note in `progress/` is damaged: grid": State("begun", {f"{PROGRESS}/grid.json": "[1]"}, "", "again"),
    "a block, an array or its metadata is damaged or gone: digests": State(
        "whole", {f"{PROGRESS}/digests.json": "{}"}, "complete already", "repair"
    ),
    "another note in `progress/` is damaged: claim": State("begun", {f"{PROGRESS}/finish_1": "[1]"}, "", "again"),
    "another note in `progress/` is damaged: owner": State(
        "begun", {f"{PROGRESS}/finish_1": '{"host": 3, "process": []}'}, "", "again"
    ),
    "marks of blocks are damaged, edited, or of no block: damaged": State(
        "begun",
        {f"{PROGRESS}/segment/0_0_0.json": "", f"{PROGRESS}/refine/0_0_0.json": "[7]"},
        "2 marks of finished blocks were damaged; these blocks are done again",
        "again",
    ),
    "marks of blocks are damaged, edited, or of no block: edited": State(
        "begun",
        {f"{PROGRESS}/segment/2_0_0.json": '{"voxels": 9, "seconds": 1, "check": "1"}'},
        "1 marks of finished",
        "again",
    ),
    "marks of blocks are damaged, edited, or of no block: without its seal": State(
        "begun", {f"{PROGRESS}/refine/2_0_0.json": '{"seconds": 1, "digests": 5}'}, "1 marks of finished", "again"
    ),
    "marks of blocks are damaged, edited, or of no block: of no block": State(
        "begun",
        {f"{PROGRESS}/segment/9_9_9.json": '{"voxels": 9, "seconds": 1}', f"{PROGRESS}/segment/x.json": "{}"},
        "",
        "again",
    ),
    # The arrays.
    "a block, an array or its metadata is damaged or gone: array": State(
        "begun", {"a.ome.zarr/labels/refined": None}, "reads as background.*--repair", "repair"
    ),
    "a block, an array or its metadata is damaged or gone: metadata": State(
        "begun", {"a.ome.zarr/labels/initial/zarr.json": "{"}, "zarr.json is damaged.*--repair", "repair"
    ),
    "a block, an array or its metadata is damaged or gone: group": State(
        "begun", {"a.ome.zarr/zarr.json": "{"}, "zarr.json is damaged.*--repair", "repair"
    ),
    "a block that is not done yet is damaged": State(
        "begun", {"a.ome.zarr/labels/trust/0/c/1/0/0": "?", f"{PROGRESS}/segment/2_0_0.json": None}, "", "again"
    ),
    "`STEM.ome.zarr` is gone": State("whole", {"a.ome.zarr": None}, "is gone, though .*--overwrite", "overwrite"),
    "`STEM.ome.zarr` is not ours: a file": State("empty", {"a.ome.zarr": "mine"}, FOREIGN, "move", ("a.ome.zarr",)),
    "`STEM.ome.zarr` is not ours: a folder": State(
        "empty", {"a.ome.zarr/zarr.json": "{}"}, FOREIGN, "move", ("a.ome.zarr/zarr.json",)
    ),
    # The sidecar.
    "`STEM.json` is damaged or was changed: {": State("whole", {"a.json": "{"}, f"a.json {CHANGED}.*move it", "move"),
    "`STEM.json` is damaged or was changed: other": State(
        "whole", {"a.json": '{"mine": 1}'}, f"a.json {CHANGED}", "move", ("a.json",)
    ),
    "`STEM.json` is damaged or was changed: deep": State("whole", {"a.json": DEEP}, f"a.json {CHANGED}", "move"),
    "`STEM.json` is not ours: beside blocks": State(
        "begun", {"a.json": '{"mine": 1}'}, f"a.json is there .* {FOREIGN}", "move", ("a.json",)
    ),
    "`STEM.json` is not ours: alone": State(
        "empty", {"a.json": '{"mine": 1}'}, f"a.json .* {FOREIGN}", "move", ("a.json",)
    ),
    "`STEM.json` is not ours: a list": State("empty", {"a.json": "[1]"}, f"a.json .* {FOREIGN}", "move", ("a.json",)),
    "`STEM.json` is not ours: a folder": State(
        "begun", {"a.json/b": "mine"}, f"a.json is there .* {FOREIGN}", "move", ("a.json/b",)
    ),
    "another `X.json` lies beside it": State("whole", {"b.json": DEEP}, "complete already", "again", ("b.json",)),
    # What lies beside it.
    "a table, the skeletons or an export is gone: table": State(
        "whole", {"a_objects.csv": None}, "complete but for a_objects.csv", "again"
    ),
    "a table, the skeletons or an export is gone: skeletons": State(
        "whole", {"a_skeletons": None}, "complete but for a_skeletons", "again"
    ),
    "a table, the skeletons or an export is gone: export": State(
        "whole", {"a_refined.tif": None}, "wrote 1 exports", "again"
    ),
    "a table, the skeletons or an export was changed: table": State(
        "whole", {"a_objects.csv": "mine"}, "a_objects.csv was changed", "move", ("a_objects.csv",)
    ),
    "a table, the skeletons or an export was changed: and one is gone": State(
        "whole",
        {"a_objects.csv": "mine", "a_repairs.csv": None},
        f"a_objects.csv {CHANGED}",
        "move",
        ("a_objects.csv",),
    ),
    "a table, the skeletons or an export was changed: skeletons": State(
        "whole",
        {"a_skeletons/notes.txt": "mine", "a_objects.csv": None},
        f"a_skeletons {CHANGED}, or files were added",
        "move",
        ("a_skeletons/notes.txt",),
    ),
    "a table, the skeletons or an export is not ours: table": State(
        "begun", {"a_objects.csv": "mine"}, f"a_objects.csv is there .* {FOREIGN}", "move", ("a_objects.csv",)
    ),
    "a table, the skeletons or an export is not ours: export": State(
        "begun", {"a_refined.tif": "mine"}, f"a_refined.tif is there .* {FOREIGN}", "move", ("a_refined.tif",)
    ),
    "a table, the skeletons or an export is not ours: alone": State(
        "empty", {"a_objects.csv": "mine"}, f"a_objects.csv .* {FOREIGN}", "move", ("a_objects.csv",)
    ),
    "a table, the skeletons or an export is not ours: skeletons": State(
        "empty", {"a_skeletons/1.swc": "mine"}, f"a_skeletons .* {FOREIGN}", "move", ("a_skeletons/1.swc",)
    ),
    "another note in `progress/` is damaged: of a table": State(
        "whole", {f"{PROGRESS}/files/a_objects.csv.json": "[1]"}, "complete already", "again"
    ),
}
MORE = ("a_notes.txt", "a_refined.png", "report of mine.html")  # of the user, beside it, in every state


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    places = {base: tmp_path_factory.mktemp(base) for base in ("whole", "begun", "empty")}
    run(places["whole"])
    half_finished(copied(places["whole"], places["begun"]))
    return places


def put(path, text):
    if text is None:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        return
    shutil.rmtree(path) if path.is_dir() else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (1, 1))  # a claim that nobody keeps alive


def answered(place, **changes):
    """What a user reads of the command that made it."""
    said = []
    try:
        run(place, said.append, **changes)
    except (BadInput, CannotGoOn) as error:
        return f"error: {error}"
    return "\n".join(said)


@pytest.mark.parametrize("name", STATES)
def test_every_state_has_one_line_and_a_way_out(bases, tmp_path, capsys, name):
    state, place = STATES[name], copied(bases[STATES[name].base], tmp_path / "out")
    for file, text in (state.texts | dict.fromkeys(MORE, "mine")).items():
        put(place / file, text)
    theirs = {file: (place / file).read_bytes() for file in (*state.theirs, *MORE)}

    def untouched(moved=Path("nothing")):
        places = [place / moved if (place / moved).exists() else place, place]
        assert all(
            any((p / file).is_file() and (p / file).read_bytes() == b for p in places) for file, b in theirs.items()
        )

    line = answered(place)
    assert re.search(state.says, line), line
    assert not line.startswith("error") or "\n" not in line
    untouched()
    if state.theirs and "b.json" not in state.theirs:
        refused = answered(place, overwrite=True)
        assert refused.startswith("error") and state.theirs[0].split("/")[0] in refused and "; move it, or" in refused
        untouched()
    if state.out == "overwrite":
        run(place, overwrite=True)
    elif state.out == "move":
        first = next(iter(state.texts)).split("/")[0]
        (place / "aside").mkdir()
        (place / first).rename(place / "aside" / first)
        run(place)
    elif state.out == "repair":
        assert verify.main(["--repair", str(place)]) == 1
        run(place)
    elif line.startswith("error"):
        raise AssertionError(line)
    untouched("aside")
    assert content(place) == content(bases["whole"])
    assert "a" in output.sidecars(place)
    if state.out != "again":
        assert verify.main([str(place)]) == 0, capsys.readouterr().out


def test_a_result_among_foreign_json_is_reported(bases, tmp_path):
    place = copied(bases["whole"], tmp_path)
    (place / "b.ome.zarr").mkdir()
    for text in ("[1]", DEEP, '{"made_by": 7}', json.dumps({"made_by": {"inputs": {}, "settings": {}}})):
        (place / "b.json").write_text(text)
        assert set(output.sidecars(place)) == {"a"}


def test_the_document_has_the_same_states():
    text = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
    section = text.partition("## States of an output folder")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (.+?) \| .+ \| (.+?) \|$", section, re.MULTILINE)[1:]
    words = {"again": "the same command", "overwrite": "`--overwrite`", "move": "move it away", "repair": "`--repair`"}
    tested = {(name.partition(": ")[0], words[state.out]) for name, state in STATES.items()}
    assert {*rows} == tested
