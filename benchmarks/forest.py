"""A random forest on filter responses, as people grow it in ilastik: what benchmarks/clicks.py compares networks with.

Not a program. The filters are those ilastik offers, of each plane at the scales that it proposes.
"""

import numpy as np
from scipy import ndimage

try:
    from sklearn.ensemble import RandomForestClassifier
except ImportError:
    RandomForestClassifier = None

AVAILABLE = RandomForestClassifier is not None
SCALES = (0.7, 1.0, 1.6, 3.5, 5.0)  # standard deviations in voxels


def grow(images, labels):
    """A forest of 100 trees. images: (z, y, x) each; labels: uint8 of these shapes, 255 where nothing was said."""
    x, y = [], []
    for image, own in zip(images, labels, strict=True):
        for plane, known in zip(image, own, strict=True):
            if (known != 255).any():
                x.append(responses(plane)[known != 255])
                y.append(known[known != 255])
    return RandomForestClassifier(100, random_state=0, n_jobs=1).fit(np.concatenate(x), np.concatenate(y))


def probabilities(forest, image, classes):
    """float32 (z, y, x, classes)."""
    found = np.zeros((*image.shape, classes), np.float32)
    for z, plane in enumerate(image):
        said = forest.predict_proba(responses(plane).reshape(plane.size, -1))
        found[z][..., forest.classes_.astype(int)] = said.reshape(*plane.shape, -1)
    return found


def responses(plane):
    """float32 (y, x, filters) of a plane."""
    plane, found = plane.astype(np.float32), []
    for scale in SCALES:
        smooth = ndimage.gaussian_filter(plane, scale)
        found += [smooth, ndimage.gaussian_gradient_magnitude(plane, scale), ndimage.gaussian_laplace(plane, scale)]
        found.append(smooth - ndimage.gaussian_filter(plane, 0.66 * scale))
        along = [[ndimage.gaussian_filter(plane, scale, (int(i == 0) + int(j == 0), int(i == 1) + int(j == 1)))
                  for j in (0, 1)] for i in (0, 1)]  # fmt: skip
        found += eigenvalues(along[0][0], along[0][1], along[1][1])
        dy, dx = (ndimage.gaussian_filter(plane, scale, order) for order in ((1, 0), (0, 1)))
        found += eigenvalues(*(ndimage.gaussian_filter(product, scale / 2) for product in (dy * dy, dy * dx, dx * dx)))
    return np.stack(found, -1)


def eigenvalues(a, b, c):
    """[higher, lower] of the symmetric matrices ((a, b), (b, c))."""
    middle, reach = (a + c) / 2, np.sqrt(((a - c) / 2) ** 2 + b**2)
    return [middle + reach, middle - reach]
