"""What refine.py refuses: one line for every mistake, exit code 2, and nothing is written."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from fakes import image, labels
from stacks import IMAGE, LABELS, entropy_of

from maeref_jax.commands import opening


def write(path, array, **options):
    return lambda: tifffile.imwrite(path, array, **({"imagej": True, "metadata": {"axes": "ZYX"}} | options))


PLAIN = {"imagej": False, "photometric": "minisblack", "metadata": None}


@pytest.mark.parametrize(
    ("prepare", "arguments", "message"),
    [
        (None, [*IMAGE[2:], "--input", "none.tif"], "no such file: none.tif"),
        (None, [*IMAGE[2:], "--input", "stacks/*.tiff"], "no file matches"),
        (None, IMAGE[2:], "--input is missing"),
        (None, IMAGE[:4] + IMAGE[6:], "--refiner is missing"),
        (None, IMAGE[:6], "--output is missing"),
        (None, IMAGE[:2] + IMAGE[4:], "expected one of --ensemble"),
        (None, [*IMAGE, "--labels", "a_labels.tif"], "found --ensemble and --labels"),
        (None, [*IMAGE, "--entropy", "stacks/a_entropy.tif"], "--entropy belongs to --labels"),
        (None, LABELS, "--labels needs --entropy, --hidden or both"),
        (None, [*IMAGE, "--label_map", "0:0,255:1"], "there are none of these here, leave it out"),
        (None, [*IMAGE, "--treshold", "0.3"], "did you mean '--threshold'?"),
        (None, [*IMAGE, "--config.seed=-1"], "seed is -1"),
        (lambda: Path("file").touch(), [*IMAGE[2:], "--input", "stacks/a.tif", "--output", "file"], "file is a file"),
        (None, [*LABELS, "b_labels.tif", "--hidden", "a.tif"], "needs quotes"),
        (None, [*IMAGE, "--threshold", "high"], "threshold must be a number"),
        (None, [*IMAGE, "--threshold", "2"], "threshold is 2.0, expected 0 to 1"),
        (None, [*IMAGE, "--config.treshold=1"], "did you mean 'threshold'?"),
        (None, [*IMAGE, "--config.block=1,2"], "three positive numbers"),
        (None, [*IMAGE, "--config", "refine:fast"], "has no mode 'fast'"),
        (None, [*IMAGE, "--config", "configs/none.py"], "no config file"),
        (None, [*IMAGE, "--voxel_size_nm", "5"], "three positive numbers"),
        (None, [*IMAGE, "--voxel_size_nm", "a,b,c"], "three positive numbers"),
        (None, [*IMAGE, "--channel", "1"], "has no channel axis"),
        (None, [*IMAGE, "--ensemble", "stacks"], "stacks is not the workdir of a train.py run"),
        (None, [*IMAGE, "--refiner", "nowhere"], "nowhere is not the workdir"),
        (None, [*IMAGE, "--axes", "CZYX"], "names 4 axes, but stacks/a.tif has 3"),
        (
            None,
            ["--input", "stacks/[ab].tif", "--labels", "a_labels.tif", "--hidden", "{stem}", *LABELS[2:]],
            "with several inputs a name pattern",
        ),
        (
            None,
            [*IMAGE[2:], "--input", "stacks/a.tif", "a_labels.tif", "./stacks/a.tif"],
            "several inputs are called 'a'",
        ),
        (write("x.tif", image()[0], metadata={}), [*IMAGE[2:], "--input", "x.tif"], "x.tif is a plane"),
        (write("x.tif", image(), **PLAIN), [*IMAGE[2:], "--input", "x.tif"], "give them, e.g. --axes ZYX"),
        (write("x.tif", image() * np.nan), [*IMAGE[2:], "--input", "x.tif"], "x.tif holds nan"),
        (lambda: Path("x.tif").write_bytes(b""), [*IMAGE[2:], "--input", "x.tif"], "empty or truncated"),
        (
            write("a_labels.tif", labels() + 3),
            [*LABELS, "--entropy", "stacks/a_entropy.tif"],
            "no voxel is 0; --label_map",
        ),
        (
            write("a_labels.tif", labels() + np.float32(0.5)),
            [*LABELS, "--entropy", "stacks/a_entropy.tif"],
            "holds 0.5; labels are whole numbers",
        ),
        (write("x.tif", image()[:2] / 300), [*LABELS, "--entropy", "x.tif"], "has shape (2, 29, 38), but"),
        (write("x.tif", entropy_of(0) * 1.5), [*LABELS, "--entropy", "x.tif"], "nats"),
        (write("x.tif", entropy_of(0) * np.nan), [*LABELS, "--entropy", "x.tif"], "x.tif holds nan"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(refine, prepare, arguments, message):
    if prepare is not None:
        prepare()
    before = sorted(Path().rglob("*"))
    code, out, err = refine(*arguments)
    assert code == 2
    assert message in err
    assert err.startswith("error: ") and err.count("\n") == 1
    assert sorted(Path().rglob("*")) == before
    assert all(line.startswith("threshold ") for line in out.splitlines())


@pytest.mark.parametrize("theirs", ["[1]", '{"mine": 1}', "{", "caf\u00e9"])
def test_a_json_of_somebody_else_stays(refine, theirs):
    path = Path("out/a_labels.json")
    path.parent.mkdir()
    path.write_text(theirs, encoding="latin-1")
    for more in ([], ["--overwrite"]):
        code, _, err = refine(*LABELS, "--entropy", "stacks/a_entropy.tif", *more)
        assert code == 2 and "out/a_labels.json" in err.splitlines()[-1]
        assert path.read_text(encoding="latin-1") == theirs and [*path.parent.iterdir()] == [path]


def test_axes_of_an_image_with_channels_suit_labels_without(refine):
    channels = np.stack([image(0), image(0)])
    np.save("c.npy", channels), np.save("l.npy", labels(0)), np.save("h.npy", labels(0) > 1)
    arguments = [*LABELS[2:], "--input", "c.npy", "--labels", "l.npy", "--hidden", "h.npy", "--axes", "CZYX"]
    assert refine(*arguments, "--channel", "1")[0] == 0


def test_a_worker_whose_input_is_gone_says_so(refine, monkeypatch):
    def gone(request, config):
        raise OSError("the disk is gone")

    monkeypatch.setattr(opening, "open_request", gone)
    code, _, err = refine(*IMAGE, "--serve", "a")
    assert (code, err) == (1, "error: a: the disk is gone\n")
