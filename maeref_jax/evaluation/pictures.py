"""What a person looks at: slices where most changed, as panels and sliders, and the figures of the paper."""

import numpy as np

from maeref_jax.evaluation import degradation
from maeref_jax.metrics import validity
from maeref_jax.pipeline.blockwise import in_3d, real_probabilities
from maeref_jax.pipeline.shown import shown_range
from maeref_jax.report import figures
from maeref_jax.report.most_changed import APART
from maeref_jax.report.page import Picture, Slider
from maeref_jax.report.panels import Slice, busiest_window, overlays, panels
from maeref_jax.volumes.grey_values import scaled
from maeref_jax.volumes.volume import labels_from_disk
from maeref_jax.volumes.windows import Box

WINDOW = 144  # pixels of a slice that a picture shows at most
FADED = 3  # mitochondria of figure 4


def choose_slices(judged, number):
    """(volume, slice, why) to show: those with most repaired voxels, and last the one with most voxels made wrong.

    judged: (Case, {role: Volume}, agreement.Judged) of every volume.
    """
    gains = [(count, i, z) for i, (_, _, found) in enumerate(judged) for z, count in enumerate(found.repaired)]
    losses = [(count, i, z) for i, (_, _, found) in enumerate(judged) for z, count in enumerate(found.made_wrong)]
    chosen = []

    def take(ranked, wanted, why):
        for _, i, z in sorted(ranked, reverse=True):
            if len(chosen) == wanted:
                return
            if all(i != other or abs(z - at) >= APART for other, at, _ in chosen):
                chosen.append((i, z, why))

    take(gains, number - 1 if number > 1 else number, "among the slices with most repaired voxels")
    take(losses, number, "the slice with most voxels made wrong, of those not shown above")
    return chosen


def cut(judged, choice):
    """(Case, Slice) of one chosen slice, cut to where most changed."""
    index, z, _ = choice
    case, results, _ = judged[index]
    box = Box((z, 0, 0), (z + 1, *case.truth.shape[1:]))
    found = {role: volume.read(box)[0] for role, volume in results.items()}
    initial, refined = labels_from_disk(found["initial"]), labels_from_disk(found["refined"])
    truth = case.truth[z]
    image = case.inputs["image"].read(box)[0] if "image" in case.inputs else None
    window = busiest_window((initial != refined) & (truth != -1), WINDOW)
    whole = Slice(image, found["entropy"] / 255, found["hidden"] > 0, initial, refined, truth)
    return case, Slice(*(None if array is None else array[window] for array in whole))


def before_and_after(judged, choice, classes, everywhere=False):
    """(Slider, Picture) of one chosen slice: labels over the image, and six panels. everywhere: whether that is where
    the refiner works.
    """
    _, z, why = choice
    case, shown = cut(judged, choice)
    repaired = int(((shown.initial != shown.truth) & (shown.refined == shown.truth)).sum())
    broken = int(((shown.initial == shown.truth) & (shown.refined != shown.truth)).sum())
    outlines = "tokens whose labels were hidden and filled in from their surroundings; all else is untouched."
    if everywhere:
        outlines = "tokens called unreliable; the refiner works everywhere, there and elsewhere."
    caption = (
        f"{case.stem}, slice {z} ({why}). {repaired:,} voxels repaired, {broken:,} made wrong in this view. Pink "
        f"outlines: {outlines}"
    )
    six = Picture(panels(shown, classes["names"], classes["colours"], case.voxel_size_nm), caption)
    return Slider(*overlays(shown, classes["colours"]), f"{case.stem}, slice {z}."), six


def paper_figures(judged, chosen, classes, ids, ensemble, fading):
    """Figures 1 to 6 of the paper on these volumes, as far as they can be drawn: a list of Picture.

    chosen: of `choose_slices`, not empty; ids: of the validity metrics' classes, () where they mean nothing here.
    ensemble: its Model or None; fading: phantoms for figure 4, {"seeds", "shape", "voxel_size_nm"}, or None.
    """
    case, shown = cut(judged, chosen[0])
    size, names, colours = case.voxel_size_nm, classes["names"], classes["colours"]
    maps = {"Truth": shown.truth, "Initial": shown.initial, "Refined": shown.refined}
    where = f"{case.stem}, slice {chosen[0][1]}"
    made = []
    if ids:
        meaning = validity.Classes(*ids)
        made.append(
            Picture(
                figures.validity_figure(maps, names, colours, classes=meaning, voxel_size_nm=size),
                f"Valid, invalid and repaired ({where}). Marked is what anatomy forbids: the inner part touching "
                "background, and holes.",
            )
        )
        before = {"Initial": shown.initial, "Refined": shown.refined, "Truth": shown.truth}
        made.append(
            Picture(
                figures.skeleton_figure(before, classes=meaning, voxel_size_nm=size),
                f"Skeletons of cristae and matrix before and after ({where}).",
            )
        )
    if ensemble is not None and ensemble.apply.dims == 2:
        members = member_labels(ensemble, scaled(shown.image, shown_range(ensemble, case.inputs["image"])))
        panel = (shown.image, members, shown.initial, shown.entropy, shown.hidden, shown.refined)
        made.append(
            Picture(
                figures.pipeline_figure(*panel, names, colours, voxel_size_nm=size),
                f"The way from image to refined labels ({where}).",
            )
        )
    if ensemble is not None and fading:
        made.append(Picture(figures.degradation_figure(faded(ensemble, fading), voxel_size_nm=None), _FADING))
    if ids:
        made.append(
            Picture(
                figures.boundary_figure(maps, names, colours, classes=meaning, voxel_size_nm=size),
                f"The two boundary ratios, drawn ({where}).",
            )
        )
    windows = {}
    for choice in chosen:
        of, part = cut(judged, choice)
        windows[f"{of.stem}, slice {choice[1]}"] = part
    made.append(
        Picture(
            figures.windows_figure(windows, names, colours, voxel_size_nm=size),
            "Initial labels, what was hidden, what was filled in, and the image.",
        )
    )
    return made


_FADING = (
    "The signal of mitochondria of phantoms is taken away around a point of their skeleton, as in section 4.3 of the "
    "paper: the ensemble's entropy rises there."
)


def member_labels(ensemble, image):
    """What every member of a 2-D ensemble says of an image (y, x) as it sees it, int (k, y, x), never "ambiguous"."""
    import jax

    probabilities = jax.jit(ensemble.apply.predict)(ensemble.params, ensemble.state, np.float32(image)[None])
    return np.asarray(real_probabilities(probabilities[:, 0], ensemble.settings["classes"]["ambiguous"])).argmax(-1)


def faded(ensemble, fading):
    """{name: figures.Faded} of FADED mitochondria, for the ensemble's own windows."""
    phantoms = (fading["shape"], fading["voxel_size_nm"])
    found = degradation.windows(fading["seeds"], *phantoms, in_3d(ensemble.apply)[0], FADED)
    predict, rng = degradation.ensemble_entropy(ensemble, found), np.random.default_rng(0)
    variant = next(iter(degradation.VARIANTS.values()))
    changed = [degradation.degraded(window, variant, rng) for window in found]
    before = predict(np.stack([window.image for window in found]))
    after = predict(np.stack([image for image, _ in changed]))
    shown = {}
    for number, (window, (image, region)) in enumerate(zip(found, changed, strict=True)):
        z = window.centre[0]
        shown[f"mitochondrion {number + 1}"] = figures.Faded(
            window.image[z], image[z], before[number][z], after[number][z], region[z]
        )
    return shown
