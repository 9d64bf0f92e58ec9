"""Files of results appear whole under their name or not at all."""

import pytest

from maeref_jax.results import output


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.json"
    output.write_json(path, {"old": 1})
    before = path.read_text(encoding="utf-8")

    def lines():
        yield "half of it\n" * 10_000  # more than a buffer holds
        assert path.read_text(encoding="utf-8") == before
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        output.write_lines(path, lines())
    assert path.read_text(encoding="utf-8") == before
    assert list(tmp_path.glob("[!.]*")) == [path], "a part of a file has a name that nobody reads"


def test_a_folder_takes_its_place_when_everything_is_in_it(tmp_path):
    path = tmp_path / "skeletons"
    with output.whole_folder(path) as folder:
        (folder / "1.swc").write_text("one")
        assert not path.exists()
    with output.whole_folder(path) as folder:
        (folder / "2.swc").write_text("two")
        assert [file.name for file in path.iterdir()] == ["1.swc"]
    assert [file.name for file in path.iterdir()] == ["2.swc"]
