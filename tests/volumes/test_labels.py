import numpy as np

from maeref_jax.volumes.labels import derive_shell, real_classes, rederive_shell


def test_the_shell_is_as_wide_as_asked_and_has_no_cap_at_a_cut_face():
    labels = np.zeros((20, 30, 30), np.int16)
    labels[:, 5:25, 5:25] = 3  # a bar cut at both z faces
    shelled = derive_shell(labels, 1, 4)
    assert (shelled[:, 5:9, 5:25] == 1).all() and (shelled[:, 9:21, 9:21] == 3).all()
    assert (shelled[labels == 0] == 0).all()


def test_a_shell_derived_again_depends_on_the_foreground_and_what_is_inside_alone():
    labels = np.zeros((20, 30, 30), np.int16)
    labels[:, 5:25, 5:25] = 3
    labels[:, 12:18, 12:18] = 2
    shelled = derive_shell(labels, 1, 4)
    scribbled = shelled.copy()
    scribbled[:, 9:11, 9:21] = 1  # shell where there is none, beside matrix
    scribbled[:, 5:6, 5:25] = 2  # none where there is
    scribbled[3, 15, 15] = 1  # a hole in a crista
    np.testing.assert_array_equal(rederive_shell(scribbled, 1, 4), shelled)
    thin = np.where(labels > 0, np.int16(1), labels)
    assert set(np.unique(rederive_shell(thin, 1, 4))) == {0, 1}, "nothing but shell stays nothing but shell"


def test_the_shell_of_a_real_mitochondrion_is_outermost_and_leaves_cristae_inside(real_data):
    from maeref_jax.volumes.volume import open_volume
    from maeref_jax.volumes.windows import whole

    volume = open_volume(str(real_data / "mef_cristae" / "NI_m3_label.tif"), axes="ZYX")
    labels = np.array([0, 3, 2, 1], np.int16)[volume.read(whole(volume.shape))]
    shelled = derive_shell(labels, 1, 6)
    touching = (shelled[:, 1:] >= 2) & (shelled[:, :-1] == 0)
    assert not touching.any() and (shelled == 2).any()


def test_the_ambiguous_class_is_no_real_one():
    assert real_classes({"names": ("background", "inside", "unsure"), "ambiguous": 2}) == 2
    assert real_classes({"names": ("background", "inside"), "ambiguous": -1}) == 2
