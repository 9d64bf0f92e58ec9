"""The volumes a training run learns from, named in a config: phantoms by seed, or files."""

import functools
import re
from collections import Counter
from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput, tell
from maeref_jax.phantoms.imaging import annotate
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.samples.labelled_slices import check_same_slices, only_labelled
from maeref_jax.volumes import grey_values, inputs, threads, within
from maeref_jax.volumes.clicks import is_clicks, is_scattered
from maeref_jax.volumes.dataset import clicked_labels, given_of, mapped_labels, met
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.view import range_text
from maeref_jax.volumes.volume import array_volume, resolved, share_slices, split_range
from maeref_jax.volumes.windows import whole

MOST_PLACES = 65536  # voxels of a kind that a volume remembers


class _Arrays(NamedTuple):
    name: str
    image: np.ndarray | None
    labels: np.ndarray
    entropy: np.ndarray | None = None
    inside: np.ndarray | None = None


class TrainingVolume(_Arrays):
    """One volume in memory, all arrays (z, y, x).

    name: what a workdir remembers it by, of a file its path from the root; image: float32 or None; labels: int16, -1
    unknown; entropy: float32 in [0, 1] or None, which makes every known label count; inside: bool, what the mask that
    learning keeps to says, or None for all.
    """

    @functools.cached_property
    def foreground(self):
        """`places` of the labels above 0."""
        return places(self.labels, lambda labels: labels > 0)

    @functools.cached_property
    def known(self):
        """`places` of the known labels."""
        return places(self.labels, lambda labels: labels >= 0)

    @functools.cached_property
    def scattered(self):
        """Whether clicks, or scribbles, are all that is known (clicks.py)."""
        return is_scattered(plane >= 0 for plane in self.labels)


def as_seen(volume, normalisation):
    """The TrainingVolume with its image as a model is shown it, float32: grey_values.as_seen."""
    image = grey_values.as_seen(array_volume(volume.image, volume.name), normalisation)
    return volume._replace(image=_read(image).astype(np.float32, copy=False))


def grey_facts(volumes, normalisation):
    """What a workdir remembers of the images of TrainingVolumes that a model was shown: normalisation; grey_values,
    the statistics of them all.
    """
    planes = [plane for volume in volumes for plane in grey_values.sample(array_volume(volume.image, volume.name))]
    return {"normalisation": normalisation, "grey_values": grey_values.statistics(planes)}


def labelled(volumes, scheme):
    """What a workdir remembers of how much of TrainingVolumes is labelled: voxels, of so many in all; share; classes,
    voxels of each by its name.
    """
    names = scheme["names"]
    planes = (plane[plane >= 0] for volume in volumes for plane in volume.labels)
    counts = sum(np.bincount(known, minlength=len(names))[: len(names)] for known in planes)
    voxels, everything = int(counts.sum()), sum(volume.labels.size for volume in volumes)
    by_name = dict(zip(names, counts.tolist(), strict=True))
    return {"voxels": voxels, "of": everything, "share": voxels / everything, "classes": by_name}


def labelled_text(found):
    """What `labelled` found, as a person is told: "120 of 240,000 voxels are labelled (0.05 %): background 60, …"."""
    classes = ", ".join(f"{name} {count:,}" for name, count in found["classes"].items())
    return f"{found['voxels']:,} of {found['of']:,} voxels are labelled ({100 * found['share']:.3g} %): {classes}"


def remembered(count):
    """Which of so many voxels a volume remembers, their numbers in order: all, or MOST_PLACES drawn at random of more,
    some perhaps twice.
    """
    if count <= MOST_PLACES:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).integers(count, size=MOST_PLACES))


def places(labels, belongs, chosen=remembered):
    """Where labels (z, y, x) belong, int32 (n, 3): of all such voxels, in order, those that are chosen.

    belongs: labels (y, x) -> bool; chosen: how many belong -> the numbers of those that are wanted, ascending. A slice
    is looked at at a time.
    """
    counts = np.array([np.count_nonzero(belongs(plane)) for plane in labels])
    ends = np.cumsum(counts)
    found, numbers = [np.zeros((0, 3), np.int32)], chosen(int(ends[-1]))
    for z in np.flatnonzero(counts):
        ranks = numbers[(numbers >= ends[z] - counts[z]) & (numbers < ends[z])] - (ends[z] - counts[z])
        flat = np.flatnonzero(belongs(labels[z]))[ranks]
        found.append(np.stack([np.full_like(flat, z), *np.divmod(flat, labels.shape[2])], 1).astype(np.int32))
    return np.concatenate(found)


def annotated_phantoms(seeds, shape, voxel_size_nm):
    """Phantoms as an annotator would have drawn them: class 4, ambiguous, in part of the low-signal regions."""

    def one(seed):
        made = phantom(seed, shape, voxel_size_nm)
        return TrainingVolume(f"phantom_{seed}", made.image, annotate(made.labels, made.low_signal, seed))

    return list(threads.in_order(one, seeds))


def volumes_from_files(split, data, scheme, with_image, say=tell):
    """The TrainingVolumes of one split. split: images, labels, entropy, tuples of paths of equal length (images and
    entropy may be empty; labels may be files of clicks, of images, clicks.py), labelled_slices, as in
    labelled_slices.py, within, as in `masks_of`; data: label_map, shell_class (-1 for none), shell_vx, and what
    given_of reads; scheme, say: as in mapped_labels.
    """
    paths = {role: split[role] for role in ("images", "labels", "entropy")}
    if with_image and len(paths["images"]) != len(paths["labels"]):
        raise BadInput(f"expected as many images as labels, found {len(paths['images'])} and {len(paths['labels'])}")
    if paths["entropy"] and len(paths["entropy"]) != len(paths["labels"]):
        raise BadInput(f"expected as many entropy volumes as labels, found {len(paths['entropy'])}")
    volumes, masks = [], masks_of(split, len(paths["labels"]))
    for i, mask in enumerate(masks):
        path = paths["labels"][i]
        clicked = is_clicks(path)
        if clicked and not with_image:
            raise BadInput(
                f"{path} holds clicks, and here whole label maps are needed: train an ensemble on its image and the "
                "clicks, and give maeref train --ensemble that, with --images instead of --labels"
            )
        given = {
            role: given_of(data).open(files[i], role)
            for role, files in paths.items()
            if files and (role != "images" or with_image) and (role != "labels" or not clicked)
        }
        given = met(given) if given_of(data).at_voxel_size_nm else given
        volume = given["images"] if clicked else given["labels"]  # whose grid it is
        if split["labelled_slices"]:
            check_same_slices(volume)
        inputs.check_same_grid(volume, *given.values())
        labels = (
            clicked_labels(path, volume, data, scheme, say) if clicked else mapped_labels(volume, data, scheme, say)
        )
        image = _read(given["images"]).astype(np.float32) if with_image else None
        entropy = _entropy(given["entropy"]) if "entropy" in given else None
        inside = None
        if mask:
            mask = given_of(data).open_mask(mask, volume)
            inside = within.inside_of(mask, volume, say)
            labels = within.left_inside(labels, inside, mask, volume, say)
        volumes.append(TrainingVolume(resolved(path), image, labels, entropy, inside))
    return only_labelled(volumes, split["labelled_slices"])


def masks_of(split, count):
    """The path of the mask of what is learned from, of each of so many volumes, "" for none. split: within, a path for
    each of them, or (). Raises BadInput for another number.
    """
    masks = split.get("within", ())  # workdirs from before it had none
    if masks and len(masks) != count:
        raise BadInput(f'expected as many masks (within) as volumes, {count}, found {len(masks)}; "" is none')
    return masks or ("",) * count


def missing_classes(volumes, scheme):
    """Names of the real classes of a scheme that occur in none of the TrainingVolumes."""
    found = set().union(*(np.unique(volume.labels).tolist() for volume in volumes))
    return [scheme["names"][i] for i in range(real_classes(scheme)) if i not in found]


def stems(paths):
    """A name for the results of every path, no two alike: "stack.ome.tif[2:4]" -> "stack_2_4"."""
    found = []
    for path in paths:
        base, z_range = split_range(path)
        numbers = re.findall(r"\d+", range_text(z_range))
        found.append("_".join([base.name.partition(".")[0], *numbers]))
    often = Counter(found)
    numbered = [f"{stem}_{i}" if often[stem] > 1 else stem for i, stem in enumerate(found)]
    if len(set(numbered)) == len(numbered):
        return numbered
    return [f"{i}_{stem}" for i, stem in enumerate(found)]  # a, a and a_0


def labels_of(image, split):
    """The label files, as workdirs remember them, of those images of a split that share slices with `image`."""
    pairs = zip(split["images"], split["labels"], strict=True)
    return [resolved(label) for other, label in pairs if share_slices(image, resolved(other))]


def _entropy(volume):
    inputs.check_entropy(volume)
    return inputs.read_entropy(volume, whole(volume.shape))


def _read(volume):
    return volume.read(whole(volume.shape))
