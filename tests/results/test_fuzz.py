"""JSON among the results, mutated five hundred times: a value, or BadInput in one line; nothing else."""

import json
import random

import pytest
from outputs import copied, half_finished, run

from maeref_jax.errors import BadInput
from maeref_jax.results import marks, output, ownership, verifying
from maeref_jax.results.claim import claimed
from maeref_jax.results.place import Output
from maeref_jax.volumes.windows import Box

PROGRESS = "a.ome.zarr/progress"
NOTES = ("made_by", "labels", "said", "grid", "digests", "segment/0_0_0", "files/a_objects.csv")
FILES = ("a.json", *(f"{PROGRESS}/{name}.json" for name in NOTES), f"{PROGRESS}/finish_1")
VALUES = (None, -1, True, "x", "", [], {}, [1, 2], {"path": 3}, 1e308, "../../etc", [[]], 10**30)
TEXTS = (
    "",
    "{",
    "[]",
    "{}",
    "null",
    "3",
    '"a"',
    "NaN",
    "\0",
    '{"a":' * 10**5,
    "[" * 10**5,
    '{"made_by": {}}',
    '{"a": 1} x',
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    place = tmp_path_factory.mktemp("finished")
    summary = run(place, block=(2, 32, 40))
    return place, summary["made_by"]


def mutated(text, rng):
    """The text with a value, a character or all of it replaced, or cut off."""
    kind = rng.randrange(4)
    if kind == 0:
        return rng.choice(TEXTS)
    if kind == 1:
        at = rng.randrange(len(text))
        return text[:at] + rng.choice(["", "\\", "7", "}", '"', "\ud83d"]) + text[at + rng.randrange(3) :]
    content = json.loads(text)
    inside, key = content, None
    while isinstance(inside, dict | list) and inside and (key is None or rng.random() < 0.7):
        outer, key = inside, rng.choice(list(inside) if isinstance(inside, dict) else range(len(inside)))
        inside = inside[key]
    if kind == 2 and isinstance(outer, dict):
        del outer[key]
    else:
        outer[key] = rng.choice(VALUES)
    if isinstance(content, dict) and rng.random() < 0.5:
        content.pop("check", None)  # whoever edits by hand cannot seal
    return json.dumps(content)


def asked(place, made_by):
    """Everything that reads JSON of results, one after the other."""
    box = Box((0, 0, 0), (2, 29, 38))
    yield lambda: output.state(place, made_by) in ("partial", "complete")
    yield lambda: output.readings(place) is not None
    yield lambda: output.notes(place, "said") is not None
    yield lambda: output.check_removable(place) is None
    yield lambda: set(output.sidecars(place.directory)) <= {"a"}
    yield lambda: output.made_again(place, ownership.summary_of(place) or {}) is not None
    yield lambda: ownership.resized(place, ownership.summary_of(place) or {}) is not None
    yield lambda: ownership.newest(place) is not None
    yield lambda: verifying.grid_of(place) is None or verifying.grid_of(place).shape == (3, 29, 38)
    yield lambda: list(verifying._notes(place, ownership.summary_of(place))) is not None
    yield lambda: marks.digests(place, "segment", box) is not None
    yield lambda: marks.sweep(place, ("segment", "refine"), [box])[0] in (0, 1)


def claim(place):
    with claimed(place.progress, "finish") as ours:
        pass
    (place.progress / "finish_2").unlink(missing_ok=True)
    return ours in (True, False)


@pytest.mark.parametrize("base", ["complete", "begun"])
@pytest.mark.parametrize("name", FILES)
def test_json_of_results_is_read_without_trust(finished, tmp_path, base, name):
    source, made_by = finished
    directory, rng = copied(source, tmp_path), random.Random(name)
    if base == "begun":
        half_finished(directory)
    path, place = directory / name, Output(directory, "a")
    if not path.exists():
        return
    text = path.read_text()
    for _ in range(30):
        wrong = mutated(text, rng)
        path.write_text(wrong, encoding="utf-8", errors="surrogatepass")
        for ask in [lambda: claim(place)] if path.name == "finish_1" else asked(place, made_by):
            try:
                assert ask(), wrong[:300]
            except BadInput as error:
                assert "\n" not in str(error)
