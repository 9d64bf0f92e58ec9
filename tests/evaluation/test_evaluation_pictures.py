"""evaluation/pictures.py: which slices are shown."""

import numpy as np

from maeref_jax.evaluation import agreement, pictures


def test_slices_shown_are_the_most_repaired_ones_and_the_worst():
    gains, losses = np.array([0, 9, 8, 0, 0, 0, 7, 0]), np.array([0, 0, 0, 0, 0, 0, 0, 5])
    judged = [
        (None, None, agreement.Judged(None, {}, {}, gains, np.zeros(8), {})),
        (None, None, agreement.Judged(None, {}, {}, gains * 0, losses, {})),
    ]
    chosen = pictures.choose_slices(judged, 3)
    assert [(i, z) for i, z, _ in chosen] == [(0, 1), (0, 6), (1, 7)]
    assert "made wrong" in chosen[-1][2]
    assert [(i, z) for i, z, _ in pictures.choose_slices(judged, 1)] == [(0, 1)]
