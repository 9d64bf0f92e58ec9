"""Inputs of any name: they are refined, or refused in one line, and everything that is written is UTF-8."""

import json
import os
from pathlib import Path

import pytest
from stacks import mistakes

NAMES = ["=ü 日本 '\"<b>& %s{0}", "-a", "a\\b", "a\nb", "a\x07", os.fsdecode(b"a\xff")]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_any_name_is_refined_or_refused_in_one_line(refine, stacks, name):
    Path("stacks/a.tif").rename(f"stacks/{name}.tif")
    arguments = ["--input", f"stacks/{name}.tif", "--ensemble", "ensemble", "--refiner", "mae", "--output", "out"]
    code, _, err = refine(*arguments, "--config", "refine:smoke", "--config.report=true", "--config.objects=true",
                            "--config.trust=true")  # fmt: skip
    if not name.isprintable() or "\\" in name:
        assert code == 2 and mistakes(err).count("\n") == 1 and "give the file another name" in err
        assert not Path("out").exists()
        return
    assert code == 0 and not mistakes(err), err
    found = [path for path in Path("out").iterdir() if path.suffix in (".json", ".html", ".csv")]
    assert len(found) >= 4
    for path in found:
        path.read_bytes().decode("utf-8")
    assert json.loads(Path("out", f"{name}.json").read_bytes())["stem"] == name
    code, _, err = refine(*arguments, "--config", "refine:smoke", "--config.report=true", "--config.objects=true",
                            "--config.trust=true")  # fmt: skip
    assert code == 0 and not mistakes(err), "and found again"
