"""Blocks as a config names them: kinds and sizes by seed, and real texture of columns that nobody else has."""

import numpy as np
import pytest
import tifffile

from maeref_jax.commands.command_line import load_config
from maeref_jax.errors import BadInput
from maeref_jax.phantoms import tissue
from maeref_jax.samples import tissue_volumes

COLUMNS = {"train": (0.0, 0.4), "validation": (0.5, 0.7), "test": (0.8, 1.0)}


@pytest.fixture
def given(tmp_path):
    """data.phantom of a config with a texture whose grey values say how far from the left they are."""
    rng = np.random.default_rng(0)
    image = 100.0 * np.arange(40) + rng.uniform(0, 50, (8, 24, 40))
    tifffile.imwrite(tmp_path / "real.tif", image.astype(np.float32))
    texture = {"path": str(tmp_path / "real.tif"), "axes": "ZYX", "voxel_size_nm": (40.0, 40.0, 40.0)}
    asked = {"kinds": ("mixed", "resin", "pasted"), "drawn_at_nm": (80.0, 120.0)}
    return {
        "train": (0, 1, 2, 3),
        "validation": (10,),
        "shape": (8, 16, 16),
        "tissue": {**asked, "texture": {**texture, "columns": COLUMNS}},
    }


def test_kinds_and_sizes_follow_the_seeds(given):
    found = tissue_volumes.blocks(given, "train", (80.0, 80.0, 80.0))
    assert [one.name for one in found] == ["tissue_mixed_0", "tissue_resin_1", "tissue_pasted_2", "tissue_mixed_3"]
    assert found[0].image.shape == (8, 16, 16) and found[0].labels.dtype == np.int16 and not found[1].labels.any()
    # Drawn at 120 nm, and taken for a block of the config's voxels.
    again = tissue.tissue_block(3, (8, 16, 16), (120.0,) * 3)
    assert np.array_equal(found[3].image, again.image)


@pytest.mark.parametrize("split", COLUMNS)
def test_texture_is_that_of_the_columns_of_a_split(given, monkeypatch, split):
    seen = []
    monkeypatch.setattr(tissue_volumes.tissue, "tissue_block", lambda *given: seen.append(given))
    tissue_volumes.block(0, (8, 16, 16), (80.0, 80.0, 80.0), "pasted", given["tissue"]["texture"], split)
    texture, (first, last) = seen[0][4], COLUMNS[split]
    assert texture.shape == (4, 12, round(last * 20) - round(first * 20)), "averaged to voxels twice as long"
    assert texture.min() >= 100 * 40 * first and texture.max() < 100 * 40 * last + 50


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"kinds": ("mixed", "brain")}, "expected some of pasted, mixed, resin, bare, tissue"),
        ({"kinds": ()}, "expected some of"),
        ({"drawn_at_nm": (80.0, 0.0)}, "sizes of voxels in nm"),
        ({"texture": {"path": "", "columns": COLUMNS}}, "tissue.texture.path names no image"),
        (
            {"texture": {"path": "a.tif", "columns": {"train": (0.0, 0.6), "test": (0.5, 1.0)}}},
            "train and test overlap",
        ),
        ({"texture": {"path": "a.tif", "columns": {"train": (0.6, 0.2)}}}, "shares of the width"),
    ],
)
def test_what_cannot_be_made_is_refused(given, changes, said):
    with pytest.raises(BadInput, match=said):
        tissue_volumes.check({**given["tissue"], **changes})


def test_the_columns_of_the_configs_are_apart_from_one_another():
    for mode in ("", ":small", ":smoke"):
        tissue_volumes.check(load_config(f"tissue{mode}").to_dict()["data"]["phantom"]["tissue"])
