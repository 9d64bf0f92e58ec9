"""Does entropy rise where the signal was taken away? The experiment of the paper's section 4.3 and figure 4.

Mitochondria of held-out phantoms are faded around a random point of their skeleton, in the four ways of VARIANTS; the
ensemble looks at the window before and after. These phantoms have no low-signal regions of their own. A mitochondrion
is one case: crops of one are not independent, and each gives but one.
"""

from typing import NamedTuple

import numpy as np
from skimage.morphology import skeletonize

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.metrics import calibration, statistics
from maeref_jax.phantoms.low_signal import fade
from maeref_jax.phantoms.phantom import PhantomSettings, phantom
from maeref_jax.pipeline.shown import shown_range
from maeref_jax.uncertainty.entropy import normalised_entropy
from maeref_jax.volumes.grey_values import scaled
from maeref_jax.volumes.volume import Volume, array_volume

# How the signal goes: the original's script takes the square root of the relative depth, the paper's text the depth.
VARIANTS = {
    "script (square root), to background": {"profile": "sqrt", "noise": 0.0},
    "script (square root), to background and noise": {"profile": "sqrt", "noise": 22.5},
    "text (linear), to background": {"profile": "linear", "noise": 0.0},
    "text (linear), to background and noise": {"profile": "linear", "noise": 22.5},
}
RADIUS_VX = (8.0, 18.0)
AMPLITUDE = 0.8
GRAIN_VX = 1.2
COUNTS_FROM = 0.3  # a voxel is degraded when it has lost more than this share of its signal
PAPER = "+160 %, from the lowest 10 % to within the top 60 %"


class Window(NamedTuple):
    """One mitochondrion: image float32 and foreground bool (z, y, x) of a model's window, and the point to fade.

    background: grey value outside mitochondria; phantom: Volume of the whole image.
    """

    image: np.ndarray
    foreground: np.ndarray
    centre: tuple[int, int, int]
    background: float
    phantom: Volume


def check(fading, shape, size):
    """Raises BadInput where there is nothing to fade. fading: {"seeds", "mitochondria"}; shape, size: (z, y, x) of the
    phantoms and of a window.
    """
    if not fading["seeds"] or fading["mitochondria"] < 1:
        raise BadInput(
            f"fading is {fading}, expected seeds of phantoms and the number of mitochondria to fade, 1 or more"
        )
    if any(not isinstance(seed, int) or seed < 0 for seed in fading["seeds"]):
        raise BadInput(f"fading.seeds is {fading['seeds']}, expected whole numbers of 0 or more")
    if any(side > length for side, length in zip(size, shape, strict=True)):
        raise BadInput(f"the ensemble's window {size} is larger than the phantoms, phantom.shape {tuple(shape)}")


def windows(seeds, shape, voxel_size_nm, size, count):
    """`count` Windows of different mitochondria of the phantoms of those seeds, or as many as there are.

    size: (z, y, x) of a window that fits into the phantoms.
    """
    found, plain = [], PhantomSettings()
    clear = plain.imaging.low_signal._replace(on_mitochondria=0.0, in_cytoplasm=0.0)
    plain = plain._replace(imaging=plain.imaging._replace(low_signal=clear))
    for seed in seeds:
        made = phantom(seed, shape, voxel_size_nm, plain)
        rng, image = np.random.default_rng(seed), made.image.astype(np.float32)
        whole = array_volume(image, f"phantom_{seed}", voxel_size_nm)
        background = float(image[made.labels == 0].mean())
        for number in np.unique(made.instances[made.instances > 0]):
            if len(found) == count:
                return found
            points = skeleton_points(made.instances == number)
            if len(points):
                at = points[rng.integers(len(points))]
                corner = [min(max(a - s // 2, 0), n - s) for a, s, n in zip(at, size, shape, strict=True)]
                box = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
                centre = tuple(int(a - c) for a, c in zip(at, corner, strict=True))
                found.append(Window(image[box], (made.labels > 0)[box], centre, background, whole))
    return found


def skeleton_points(mask):
    """Points (n, 3) of the skeleton of a mitochondrion, plane by plane."""
    points = [(z, *at) for z in np.flatnonzero(mask.any((1, 2))) for at in np.argwhere(skeletonize(mask[z]))]
    return np.array(points, int).reshape(-1, 3)


def degraded(window, variant, rng):
    """The Window's image after fading, and where it is degraded, bool; both (z, y, x)."""
    image, region = window.image.copy(), np.zeros(window.image.shape, bool)
    drawn = {"background": window.background, "amplitude": AMPLITUDE, "grain_vx": GRAIN_VX, **variant}
    box, weight = fade(image, rng, window.centre, rng.uniform(*RADIUS_VX), **drawn)
    region[box] = weight > COUNTS_FROM
    return image, region


def measure(found, predict, seed=0):
    """Per variant float64 (windows, 4): mean entropy of the degraded part of the mitochondrion before and after, and
    the AUROC of entropy as a detector of that part among the foreground of the window before and after.

    predict: images float32 (b, z, y, x) -> entropy float32 (b, z, y, x).
    """
    before = predict(np.stack([window.image for window in found]))
    results = {}
    for name, variant in VARIANTS.items():
        rng = np.random.default_rng(seed)  # the same points and radii in every variant
        changed = [degraded(window, variant, rng) for window in found]
        after = predict(np.stack([image for image, _ in changed]))
        rows = []
        for window, (_, region), first, then in zip(found, changed, before, after, strict=True):
            inside, around = region & window.foreground, ~region & window.foreground
            detected = (auroc(entropy, inside, around) for entropy in (first, then))
            rows.append((first[inside].mean(), then[inside].mean(), *detected))
        results[name] = np.array(rows, np.float64)
    return results


def auroc(entropy, inside, around):
    """The chance that a voxel of `inside` is more doubtful than one of `around`; NaN where one of them is empty."""
    return calibration.auroc(calibration.count_doubt(entropy, inside.astype(int), np.where(inside | around, 0, -1)))


def table(results):
    """A report.Table of what `measure` found."""
    rows = []
    for name, values in results.items():
        pairs = np.stack([values[:, 1] - values[:, 0], np.ones(len(values))], 1)
        rise = statistics.interval(pairs, statistics.ratio, seed=0)
        before, after, low, high = np.nanmean(values, 0)
        between = f" [{rise.low:+.3f}, {rise.high:+.3f}]" if rise.clusters > 1 else ""
        rows.append(
            (
                name,
                f"{before:.3f}",
                f"{after:.3f}",
                f"{rise.estimate:+.3f}{between}",
                f"{(after / max(before, 1e-6) - 1) * 100:+.0f} %",
                f"{low:.3f} → {high:.3f}",
            )
        )
    number = len(next(iter(results.values())))
    header = (f"{number} mitochondria", "before", "after", "rise, 95 % interval", "in per cent", "AUROC")
    note = (
        "Mean normalised entropy of the ensemble in the faded part of a mitochondrion. Interval: bootstrap over "
        "mitochondria, paired. AUROC: the chance that a voxel of the faded part is more doubtful than another one of "
        "the foreground of its window, before and after fading. Per cent depends on how small the entropy was before; "
        f"it stands beside the paper's {PAPER}, and is for comparison only."
    )
    return report.Table("Entropy where the signal was taken away", header, tuple(rows), (), note)


def ensemble_entropy(model, found):
    """predict of `measure` for a Segmenter's Model and these Windows: entropy of the mean probability, a few windows at
    a time.
    """
    import jax

    apply = model.apply
    variables = jax.device_put((model.params, model.state))
    run = jax.jit(lambda params, state, image: normalised_entropy(apply.predict(params, state, image).mean(0)))

    ranges = [shown_range(model, window.phantom) for window in found]

    def predict(images):
        images = np.stack([scaled(image, shown) for image, shown in zip(images, ranges, strict=True)])
        found = []
        for start in range(0, len(images), 8):
            part = images[start : start + 8]
            given = np.concatenate([part, np.repeat(part[:1], 8 - len(part), 0)])
            given = given if apply.dims == 3 else given[:, 0]
            entropy = np.asarray(run(*variables, given))[: len(part)]
            found.append(entropy if apply.dims == 3 else entropy[:, None])
        return np.concatenate(found)

    return predict
