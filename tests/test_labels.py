import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes.labels import derive_shell, remap_labels


def test_every_id_is_mapped_and_unknown_stays_unknown():
    labels = np.array([[0, 7, 255]], np.uint8)
    np.testing.assert_array_equal(remap_labels(labels, ((0, 0), (7, 2))), [[0, 2, -1]])


def test_an_id_that_is_mapped_counts_even_where_it_would_mean_unknown():
    np.testing.assert_array_equal(remap_labels(np.array([0, 255], np.uint8), ((0, 0), (255, 1))), [0, 1])


def test_an_id_without_a_mapping_is_named():
    with pytest.raises(BadInput, match=r"no entry for \[7\]"):
        remap_labels(np.array([0, 7], np.uint8), ((0, 0),))


def test_the_shell_is_as_wide_as_asked_and_has_no_cap_at_a_cut_face():
    labels = np.zeros((20, 30, 30), np.int16)
    labels[:, 5:25, 5:25] = 3  # a bar cut at both z faces
    shelled = derive_shell(labels, 1, 4)
    assert (shelled[:, 5:9, 5:25] == 1).all() and (shelled[:, 9:21, 9:21] == 3).all()
    assert (shelled[labels == 0] == 0).all()


def test_the_shell_of_a_real_mitochondrion_is_outermost_and_leaves_cristae_inside(real_data):
    from maeref_jax.volumes.volume import open_volume
    from maeref_jax.volumes.windows import Box

    volume = open_volume(str(real_data / "mef_cristae" / "NI_m3_label.tif"), axes="ZYX")
    labels = remap_labels(volume.read(Box((0, 0, 0), volume.shape)), ((0, 0), (1, 3), (2, 2), (3, 1)))
    shelled = derive_shell(labels, 1, 6)
    touching = (shelled[:, 1:] >= 2) & (shelled[:, :-1] == 0)
    assert not touching.any() and (shelled == 2).any()
