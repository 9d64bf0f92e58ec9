"""training/pictures.py: a preview becomes one picture, a row per crop."""

import numpy as np

from maeref_jax.training.pictures import COLUMNS, GAP, ROWS, SIDE, UNKNOWN, contact_sheet

COLOURS = ((0, 0, 0), (40, 90, 255))


def test_columns_stand_in_order_and_classes_have_their_colours():
    labels = np.full((6, 64, 64), 1)
    labels[0] = -1
    preview = {"truth": labels, "hidden": np.ones((6, 64, 64), bool), "image": np.zeros((6, 64, 64), np.float32)}
    sheet = contact_sheet(preview, COLOURS)
    assert sheet.dtype == np.uint8 and sheet.shape == (ROWS * (SIDE + GAP), 3 * (SIDE + GAP), 3)
    image, hidden, truth = (sheet[10, i * (SIDE + GAP) + 10] for i in range(3))
    assert image.tolist() == [0, 0, 0] and hidden.tolist() == [255] * 3 and truth.tolist() == list(UNKNOWN)
    assert sheet[SIDE + GAP + 10, 2 * (SIDE + GAP) + 10].tolist() == list(COLOURS[1])


def test_of_a_volume_the_middle_slice_is_shown_and_every_name_has_a_column():
    volume = np.zeros((1, 3, 128, 128), np.int32)
    volume[:, 1] = 1
    sheet = contact_sheet(dict.fromkeys(COLUMNS, volume), COLOURS)
    assert sheet.shape[1] == len(COLUMNS) * (SIDE + GAP) and sheet[5, 5].tolist() == list(COLOURS[1])
