"""Training crops. A batch is a pure function of (seed, step); a sample also of its global index. No jax here."""

import numpy as np

# The masking ratio is uniform; the number of visible tokens it gives is rounded up to one of these shares of all
# tokens, the static lengths a step is compiled for, in use as well. The rest is padding, which attention leaves out.
LENGTH_SHARES = (0.3, 0.6, 0.9)
TRIES = 16  # blind draws of a crop
OUTSIDE = {"labels": -1, "entropy": 0.0}  # what lies outside a volume; images are mirrored


def crop(volume, rng, size, min_foreground, anywhere_share=0.0):
    """One random crop of a TrainingVolume: a plane for a `size` of two numbers (y, x), a box for three (z, y, x).

    Returns {"image": float32, "labels": int16, "entropy": float32}, those the volume has. More than `min_foreground`
    of the crop is foreground (> 0), as far as can be; 0 asks for no more than a known label, and so does, whatever
    min_foreground says, a share `anywhere_share` of all crops, and every crop of a volume of clicks, all of which are
    as likely to be met. Where a crop reaches beyond the volume, the image is mirrored, labels are unknown, -1, and
    entropy is 0: nothing is undecided there.
    """
    box = (1,) * (3 - len(size)) + tuple(size)
    starts = corner(volume, rng, box, min_foreground, anywhere_share)
    window = tuple(slice(start, start + s) for start, s in zip(starts, box, strict=True))
    arrays = {"image": volume.image, "labels": volume.labels, "entropy": volume.entropy}
    return {
        name: padded(array[window], box, OUTSIDE.get(name)).reshape(size)
        for name, array in arrays.items()
        if array is not None
    }


def corner(volume, rng, box, min_foreground, anywhere_share=0.0):
    """Where a random crop of shape `box` (z, y, x) begins in a TrainingVolume; the rest as of `crop`."""
    anywhere = anywhere_share > 0 and rng.random() < anywhere_share
    return _starts(volume, rng, box, 0.0 if anywhere else min_foreground)


def _starts(volume, rng, box, min_foreground):
    """Where a crop of shape `box` begins. Drawn blindly, which favours nothing; but where TRIES such draws find too
    little, around voxels of what is looked for, drawn among all of the volume; the last one, where that is too little.
    Where clicks are all that is known, around one of these at once: blind draws would hardly meet any, and how often
    they are foreground was decided by who clicked.
    """
    last = [max(n - s, 0) for n, s in zip(volume.labels.shape, box, strict=True)]
    if volume.scattered:
        return _around(volume.known, rng, box, last)
    for attempt in range(2 * TRIES):
        if attempt == TRIES:
            places = volume.foreground if min_foreground > 0 and len(volume.foreground) else volume.known
            if not len(places):
                break
        starts = [rng.integers(most + 1) for most in last] if attempt < TRIES else _around(places, rng, box, last)
        labels = volume.labels[tuple(slice(start, start + s) for start, s in zip(starts, box, strict=True))]
        if (labels > 0).mean() > min_foreground if min_foreground > 0 else (labels >= 0).any():
            break
    return starts


def _around(places, rng, box, last):
    """Where a box begins that shows one of the places, wherever in it; at `last` at the latest."""
    corner = places[rng.integers(len(places))] - rng.integers(box)
    return np.clip(corner, 0, last).tolist()


def padded(array, size, value=None):
    """An array grown to `size` behind the end of every axis with `value`, or mirrored if that is None."""
    pads = [(0, wanted - found) for wanted, found in zip(size, array.shape, strict=True)]
    if not any(behind for _, behind in pads):
        return array
    return np.pad(array, pads, mode="symmetric") if value is None else np.pad(array, pads, constant_values=value)


def oriented(plane, orientation):
    """One of the eight symmetries of the square, 0 … 7; 0 is the plane itself. Odd ones transpose."""
    if orientation & 1:
        plane = plane.T
    if orientation & 2:
        plane = plane[::-1]
    if orientation & 4:
        plane = plane[:, ::-1]
    return np.ascontiguousarray(plane)


def label_batch(
    volumes,
    seed,
    step,
    indices,
    size,
    token,
    min_foreground,
    masking_ratio=None,
    donors=False,
    intensities=None,
    progress=1.0,
    anywhere_share=0.0,
):
    """Crops for a refiner: labels int16 (b, y, x), entropy float32 (b, y, x) (0 where a volume has none), index int32
    (b,) as given in `indices`, the samples of the whole batch that are wanted here; with `donors` also donor, the
    entropy of another crop for every sample, float32 (b, y, x); with `intensities` also image, float32 (b, y, x).

    shared: what belongs to all of them. With a masking_ratio, (lowest, highest) of a uniform draw, one per batch:
    hidden_count, how many tokens to hide; slots, whose length is the static number of places for visible tokens; and
    progress, as given, the share of the training that is over. With intensities: intensity_range float32 (2,), the
    statistics the model keeps.
    """
    crops, others = [], []
    for index in indices:
        # numpy takes (seed, step, 0) for (seed, step), which draws the ratio: samples count from 1.
        rng = np.random.default_rng((seed, step, index + 1))
        crops.append(_oriented_crop(volumes, rng, size, min_foreground, anywhere_share))
        if donors:
            others.append(_oriented_crop(volumes, rng, size, min_foreground, anywhere_share))
    batch, shared = {"index": np.asarray(indices, np.int32)}, {}
    batch["labels"] = np.stack([c["labels"] for c in crops])
    batch["entropy"] = np.stack([c.get("entropy", np.zeros(size, np.float32)) for c in crops])
    if donors:
        batch["donor"] = np.stack([c.get("entropy", np.zeros(size, np.float32)) for c in others])
    if intensities is not None:
        batch["image"] = np.stack([c["image"].astype(np.float32) for c in crops])
        shared["intensity_range"] = intensities
    if masking_ratio is not None:
        ratio = np.random.default_rng((seed, step)).uniform(*masking_ratio)
        hidden_count, length = masking_length(ratio, (size[0] // token) * (size[1] // token))
        shared |= {"hidden_count": np.int32(hidden_count), "slots": np.arange(length, dtype=np.int32)}
        shared["progress"] = np.float32(progress)
    return {**batch, "shared": shared}


def _oriented_crop(volumes, rng, size, *wanted):
    found = crop(volumes[rng.integers(len(volumes))], rng, size, *wanted)
    orientation = rng.integers(8) & (7 if size[0] == size[1] else 6)  # only a square can be transposed
    return {name: oriented(plane, orientation) for name, plane in found.items()}


def masking_length(ratio, tokens):
    """(number of hidden tokens, static number of visible places) for a masking ratio in [0, 1]."""
    hidden = round(ratio * tokens)
    return hidden, next(length for length in static_lengths(tokens) if length >= tokens - hidden)


def static_lengths(tokens):
    """The numbers of places for tokens that programs are compiled for, ascending, the last one all of them."""
    return [int(np.ceil(share * tokens)) for share in LENGTH_SHARES] + [tokens]


def image_batch(member_volumes, seed, step, indices, size, min_foreground, intensities, anywhere_share=0.0):
    """Crops for an ensemble: image float32 (b, k, [z,] y, x), labels int16 (b, k, [z,] y, x), index int32 (b,) as given
    in `indices`, the samples of the whole batch that are wanted here. Crops are as they lie in the volume: they are
    varied on the device (augmentation.py).

    member_volumes: k lists of TrainingVolume; every member draws from its own list with its own random numbers.
    shared: intensity_range float32 (2,), the statistics the model keeps; members int32 (k,), their numbers.
    """
    images = np.empty((len(indices), len(member_volumes), *size), np.float32)
    labels = np.empty(images.shape, np.int16)
    for place, index in enumerate(indices):
        for member, volumes in enumerate(member_volumes):
            rng = np.random.default_rng((seed, step, index, member + 1))
            found = crop(volumes[rng.integers(len(volumes))], rng, size, min_foreground, anywhere_share)
            images[place, member], labels[place, member] = found["image"], found["labels"]
    return {
        "image": images,
        "labels": labels,
        "index": np.asarray(indices, np.int32),
        "shared": {"intensity_range": intensities, "members": np.arange(len(member_volumes), dtype=np.int32)},
    }


def intensity_range(volumes, quantile=0.99):
    """(low, high) to which intensities are clipped before scaling to [0, 1]: quantiles 1 - quantile and quantile."""
    values = np.concatenate([volume.image[:, ::2, ::2].ravel() for volume in volumes])
    low, high = np.quantile(values, (1 - quantile, quantile))
    return np.array([low, max(high, low + 1e-6)], np.float32)
