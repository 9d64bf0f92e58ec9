"""A method's preview as one picture: a row per crop, a column per array, for TensorBoard."""

import numpy as np
from skimage.transform import resize

ROWS, GAP = 4, 4
SIDE = 128  # pixels of the longer side of a crop, at least
UNKNOWN = (60, 0, 60)
COLUMNS = ("image", "input", "hidden", "entropy", "prediction", "truth")  # jit would sort them by name


def contact_sheet(preview, colours):
    """uint8 (height, width, 3) of the first ROWS crops.

    preview: {name: (b, [z,] y, x)}, names of COLUMNS, of volumes the middle slice; integers are classes in
    `colours` ((r, g, b) each), bool is black and white, float is grey from its lowest to its highest value.
    """
    columns = [np.asarray(array)[:ROWS] for array in map(preview.get, COLUMNS) if array is not None]
    columns = [array[:, array.shape[1] // 2] if array.ndim == 4 else array for array in columns]
    rows = [
        np.concatenate([_framed(_coloured(array[i], colours)) for array in columns], axis=1)
        for i in range(len(columns[0]))
    ]
    return np.concatenate(rows, axis=0)


def _coloured(plane, colours):
    if plane.dtype == bool:
        return np.repeat(np.uint8(255) * plane[..., None], 3, -1)
    if np.issubdtype(plane.dtype, np.integer):
        table = np.array([*colours, UNKNOWN], np.uint8)
        return table[np.where((plane < 0) | (plane >= len(colours)), len(colours), plane)]
    low, high = float(plane.min()), float(plane.max())
    return np.repeat((255 * (plane - low) / max(high - low, 1e-9)).astype(np.uint8)[..., None], 3, -1)


def _framed(picture):
    times = max(1, SIDE // max(picture.shape[:2]))
    shape = (picture.shape[0] * times, picture.shape[1] * times)
    large = resize(picture, shape, order=0, preserve_range=True, anti_aliasing=False).astype(np.uint8)
    return np.pad(large, ((0, GAP), (0, GAP), (0, 0)), constant_values=255)
