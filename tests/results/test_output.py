"""Files of results appear whole under their name or not at all, and are known by what is in them."""

import hashlib
import json

import pytest

from maeref_jax.errors import BadInput
from maeref_jax.results import files, ownership
from maeref_jax.results.place import Output


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"old": 1})
    before = path.read_text(encoding="utf-8")

    def lines():
        yield "half of it\n" * 10_000  # more than a buffer holds
        assert path.read_text(encoding="utf-8") == before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        files.write_lines(path, lines())
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.glob("[!.]*")) == [path], "a part of a file has a name that nobody reads"


def test_a_folder_takes_its_place_when_everything_is_in_it(tmp_path):
    place = Output(tmp_path, "a")
    for name in ("1.swc", "2.swc"):
        with ownership.written(place, place.skeletons) as folder:
            folder.mkdir()
            (folder / name).write_text("one")
            assert not (place.skeletons / name).exists()
        assert [file.name for file in place.skeletons.iterdir()] == [name]
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_what_is_noted_as_ours_is_replaced_and_nothing_else(tmp_path):
    place = Output(tmp_path, "a")

    def write(text):
        with ownership.written(place, place.objects) as path:
            path.write_text(text)

    write("one")
    note = json.loads((place.notes / "a_objects.csv.json").read_text())
    assert note["written"][-1] == {"bytes": 3, "sha256": hashlib.sha256(b"one").hexdigest()}
    write("two")
    place.objects.write_text("edited")
    with pytest.raises(BadInput, match=r"a_objects.csv was damaged or changed after refine.py made it"):
        write("three")
    assert place.objects.read_text() == "edited" and [*tmp_path.glob(".*")] == []
    place.objects.write_text("one")  # as a kill leaves it, between the note of the second one and its name
    write("four")
    place.repairs.write_text("mine")
    with pytest.raises(BadInput, match=r"a_repairs.csv is there already and was not made by refine.py"):
        ownership.check(place)


@pytest.mark.parametrize("text", ["", "{", "[1]", "7", "null", "[" * 10**5, '{"a": ' * 10**5, "caf\u00e9", "\0"])
def test_json_of_others_is_nothing(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    assert files.peek(path) is None and files.peek(tmp_path) is None and files.peek(tmp_path / "b.json") is None


def test_a_seal_holds_content_and_name(tmp_path):
    path = tmp_path / "segment" / "0_0_0.json"
    path.parent.mkdir()
    files.write_sealed(path, {"hidden": 12, "digests": {}})
    assert files.load_sealed(path) == {"hidden": 12, "digests": {}}
    whole = path.read_text()
    other = path.with_name("0_0_8.json")
    other.write_text(whole)
    path.write_text(whole.replace("12", "13"))
    for wrong in (path, other):
        with pytest.raises(BadInput, match="does not hold what was written"):
            files.load_sealed(wrong)
