"""Label volumes become images with known truth, from the command line to the files."""

import textwrap

import numpy as np
import pytest
import tifffile

from maeref_jax.commands import render
from maeref_jax.errors import BadInput

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
    render.main(["--config", str(config), "--output", str(tmp_path / "out")])
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
        render.main(["--config", str(config), "--output", str(tmp_path / "out")])
    with pytest.raises(BadInput, match="no config of this command"):
        render.main(["--config", str(root / "configs" / "mae.py"), "--output", str(tmp_path / "out")])
