"""Label volumes become images with known truth, from the command line to the files."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import tifffile

from maeref_jax.commands import render as command
from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import whole

CONFIG = """
    from ml_collections import ConfigDict
    MODES = ("",)
    def get_config(mode):
        return ConfigDict({{
            "label_map": ((0, 0), (1, 3), (2, 2)), "shell_class": 1, "shell_vx": 3.0, "axes": "ZYX",
            "voxel_size_nm": (5.0, 5.0, 5.0), "z_step": 2, "pad_vx": 4, "y_planes": ("{folder}/tilted_label.tif",),
            "splits": {{"test": {{
                "labels": ("{folder}/one_label.tif", "{folder}/tilted_label.tif"), "first_seed": 7,
                "artefacts": ("", "blur"), "low_signal": {{"stretch": (1.2, 1.5)}},
            }}}},
        }})
"""


@pytest.fixture
def config(tmp_path):
    labels = np.zeros((10, 24, 30), np.uint8)
    labels[:, 4:20, 4:26] = 1
    labels[:, 10:13, 8:22] = 2
    tifffile.imwrite(tmp_path / "one_label.tif", labels)
    tifffile.imwrite(tmp_path / "tilted_label.tif", labels.swapaxes(0, 1))
    path = tmp_path / "config.py"
    path.write_text(textwrap.dedent(CONFIG.format(folder=tmp_path)))
    return path


def test_every_volume_is_written_with_its_truth_in_the_papers_scheme(config, tmp_path, capsys):
    command.main(["--config", str(config), "--output", str(tmp_path / "out")])
    files = {path.name: tifffile.imread(path) for path in (tmp_path / "out" / "test").glob("*.tif")}
    stems = ("one", "one_blur", "tilted", "tilted_blur")
    roles = ("image", "truth", "annotated", "low_signal")
    assert set(files) == {f"{stem}_{role}.tif" for stem in stems for role in roles}
    assert {array.shape for array in files.values()} == {(5, 32, 38)}, "every second slice, four voxels around"
    truth = files["one_truth.tif"]
    assert set(np.unique(truth)) == {0, 1, 2, 3} and (truth[:, 14:17, 12:26] == 2).all()
    assert (truth[:, :4] == 0).all() and (truth[0, 8:11, 12] == 1).all(), (
        "a shell of three voxels, no cap at the cut ends"
    )
    np.testing.assert_array_equal(truth, files["tilted_truth.tif"])
    np.testing.assert_array_equal(truth, files["one_blur_truth.tif"])
    assert (files["one_image.tif"] != files["one_blur_image.tif"]).any()
    assert (files["one_image.tif"] != files["tilted_image.tif"]).any(), "another seed"
    with tifffile.TiffFile(tmp_path / "out" / "test" / "one_image.tif") as stack:
        assert stack.imagej_metadata["spacing"] == pytest.approx(10.0), "two slices of 5 nm"
    assert "test/one: 5 x 32 x 38 voxels" in capsys.readouterr().out


def test_unknown_labels_and_foreign_configs_are_refused(config, tmp_path, root):
    labels = tifffile.imread(tmp_path / "one_label.tif")
    labels[0, 0, 0] = 255
    tifffile.imwrite(tmp_path / "one_label.tif", labels)
    with pytest.raises(BadInput, match=r"one_label\.tif has unknown labels"):
        command.main(["--config", str(config), "--output", str(tmp_path / "out")])
    with pytest.raises(BadInput, match="no config of this command"):
        command.main(["--config", str(root / "configs" / "mae.py"), "--output", str(tmp_path / "out")])


def test_other_classes_look_as_the_config_says_and_undecided_voxels_are_unknown(config, tmp_path, capsys):
    labels = np.zeros((12, 40, 40), np.uint8)
    labels[:, 4:20, 4:36], labels[:, 24:36, 4:36] = 1, 4
    tifffile.imwrite(tmp_path / "cell_label.tif", labels)
    text = f"""
        from configs import render_urocell
        MODES = ("",)
        def get_config(mode):
            config = render_urocell.get_config("")
            lost = {{"on_mitochondria": 2000.0, "radius_vx": (5.0, 8.0)}}
            config.splits = {{"test": {{"labels": ("{tmp_path}/cell_label.tif[0:8]", "{tmp_path}/cell_label.tif[8:12]"),
                                      "first_seed": 1, "artefacts": ("",), "low_signal": lost}}}}
            return config
    """
    config.write_text(textwrap.dedent(text))
    command.main(["--config", str(config), "--output", str(tmp_path / "out")])
    roles = ("image", "truth", "annotated", "low_signal")
    found = {role: tifffile.imread(tmp_path / "out" / "test" / f"cell_0_8_{role}.tif") for role in roles}
    np.testing.assert_array_equal(found["truth"], labels[:8:2], "every second slice of the range, no margin")
    assert set(np.unique(found["annotated"])) == {0, 1, 4, 255}
    assert (found["annotated"][found["low_signal"] == 0] == found["truth"][found["low_signal"] == 0]).all()
    sound = found["low_signal"] == 0
    body, organelle = (found["image"][sound & (found["truth"] == c)].mean() for c in (1, 4))
    assert body > organelle + 20
    assert tifffile.imread(tmp_path / "out" / "test" / "cell_8_12_truth.tif").shape == (2, 40, 40)
    assert "test/cell_0_8: 4 x 40 x 40 voxels" in capsys.readouterr().out


def test_whole_boxes_are_kept_apart_and_one_data_set_goes_by_one_name(root):
    splits = load_config(str(root / "configs" / "render_urocell.py")).splits
    boxes = {split: {path.partition("_label")[0] for path in splits[split].labels} for split in splits}
    assert sum(map(len, boxes.values())) == len(set().union(*boxes.values())) == 4
    for name in ("ensemble", "mae", "unrefined", "nearest", "inpainter", "crf"):
        config = load_config(f"{root}/configs/{name}.py:urocell")
        assert tuple(config.classes.names) == tuple(load_config(f"{root}/configs/render_urocell.py").class_names)
    written = {f"{Path(path).name.replace('_label.tif[', '_').replace(':', '_')[:-1]}" for path in splits.train.labels}
    asked = load_config(f"{root}/configs/ensemble.py:urocell").data.train
    assert {Path(path).name.removesuffix("_image.tif") for path in asked.images} == written
    assert {Path(path).name.removesuffix("_annotated.tif") for path in asked.labels} == written


def test_every_class_of_the_test_is_taught(root, real_data, monkeypatch):
    monkeypatch.setenv("MAEREF_DATA", str(real_data))
    if not (real_data / "urocell" / "3-2-1_label.tif").exists():
        pytest.skip(f"no urocell in {real_data}; set MAEREF_DATA to a folder that has it")
    splits = load_config(str(root / "configs" / "render_urocell.py")).splits

    def classes(paths):
        volumes = (open_volume(path, axes="ZYX") for path in paths)
        return {*np.concatenate([np.unique(volume.read(whole(volume.shape))[::8]) for volume in volumes])}

    assert classes(splits.train.labels) == {0, 1, 2, 3, 4} == classes(splits.test.labels[1:2])
    assert classes(splits.validation.labels) == {0, 1, 2, 3}
