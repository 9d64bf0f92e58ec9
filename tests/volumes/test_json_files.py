"""json_files.py: whatever the bytes are, an object or one line."""

import json
import random

import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes import json_files
from maeref_jax.volumes.json_files import parse_object, read_object

GOOD = {"a": [1, 2.5, None, True], "b": {"c": "ü", "d": {"e": []}}, "f": 10**30}
HOSTILE = {
    "empty": b"",
    "no object": b"[1, 2]",
    "a number": b"3",
    "null": b"null",
    "no JSON": b"{'a': 1}",
    "cut": json.dumps(GOOD).encode()[:-1],
    "another encoding": '{"a": "ü"}'.encode("latin-1"),
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "deep lists": b'{"a":' + b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep, but parsed": b'{"a":' + b"[" * 200 + b"]" * 200 + b"}",
    "thousands of digits": b'{"a": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_is_no_object_is_one_line(tmp_path, name):
    path = tmp_path / "a.json"
    path.write_bytes(HOSTILE[name])
    with pytest.raises(BadInput, match=r"a\.json (is|cannot)") as told:
        read_object(path)
    assert "\n" not in str(told.value) and len(str(told.value)) < 300


def test_an_object_is_read_whoever_wrote_it(tmp_path):
    for encoding in ("utf-8", "utf-8-sig"):
        (tmp_path / "a.json").write_text(json.dumps(GOOD, ensure_ascii=False), encoding)
        assert read_object(tmp_path / "a.json") == GOOD
    assert str(parse_object(b'{"a": NaN}', "a")["a"]) == "nan"


def test_no_file_a_folder_and_too_long_a_file_are_one_line(tmp_path, monkeypatch):
    for path in (tmp_path / "none.json", tmp_path, "a\0b"):
        with pytest.raises(BadInput, match="cannot be read"):
            read_object(path)
    monkeypatch.setattr(json_files, "LARGEST_BYTES", 10)
    (tmp_path / "a.json").write_text('{"a": 1234567890}')
    with pytest.raises(BadInput, match="too long"):
        read_object(tmp_path / "a.json")


def test_mutations_are_an_object_or_one_line():
    content, chance = json.dumps(GOOD).encode(), random.Random(0)
    for _ in range(1000):
        mutated = bytearray(content)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(mutated))
            mutated[at : at + chance.choice((0, 1, 9))] = chance.choice(
                (b"", b"[", b"{", b'"', b"\xff", b"1e999", b"\\")
            )
        try:
            assert isinstance(parse_object(bytes(mutated), "a.json"), dict)
        except BadInput as error:
            assert str(error).startswith("a.json is damaged")
