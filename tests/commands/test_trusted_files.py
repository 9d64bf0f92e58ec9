"""How far files are trusted is said by flags, of refining and of training, and by settings of the same names."""

from pathlib import Path

import numpy as np
import pytest
from stacks import mistakes

from maeref_jax.commands import train
from maeref_jax.commands.command_line import load_config, parse
from maeref_jax.volumes.dataset import given_of
from maeref_jax.volumes.formats.trust import Trust

MODELS = ["--ensemble", "ensemble", "--refiner", "mae", "--output", "out", "--dry_run"]


def test_a_stack_of_links_is_refined_where_links_are_allowed(refine, stacks):
    import tifffile

    Path("linked").mkdir()
    for z, plane in enumerate(tifffile.imread("stacks/a.tif")):
        tifffile.imwrite(f"z{z}.tif", plane, photometric="minisblack")
        Path(f"linked/z{z}.tif").symlink_to(Path(f"z{z}.tif").absolute())
    given = ["--input", "linked", "--axes", "ZYX", "--voxel_size_nm", "30,5,4", *MODELS]
    code, _, err = refine(*given)
    assert code == 2 and mistakes(err).count("\n") == 1 and "z0.tif" in err and "--follow_links" in err
    code, _, err = refine(*given, "--follow_links")
    assert code == 0 and not mistakes(err)


def test_a_packed_stack_is_refined_where_so_much_may_be_unpacked(refine, stacks):
    np.savez_compressed("a.npz", np.zeros((100, 300, 300), np.uint8))
    given = ["--input", "a.npz", "--axes", "ZYX", "--voxel_size_nm", "30,5,4", *MODELS]
    code, _, err = refine(*given, "--unpacked_gb", "0.001")
    assert code == 2 and "allow it with --unpacked_gb 0.0095 (it is 0.001)" in err
    code, _, err = refine(*given, "--unpacked_gb", "0.0095")
    assert code == 0 and not mistakes(err)


@pytest.mark.parametrize("config", ["ensemble:demo", "mae:demo"])
def test_training_takes_the_same_flags(config):
    typed = ["--config", config, "--workdir", "w", "--follow_links", "--unpacked_gb", "40", "--piece_gb", "2"]
    flags, _ = parse(train.flags(), typed)
    overrides = train.flag_overrides(flags, load_config(config))
    assert given_of(load_config(config, overrides).data).trust == Trust(True, 40.0, 2.0)
    assert given_of(load_config(config).data).trust == Trust()
