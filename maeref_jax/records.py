"""The three records of functions that let methods, segmenters and refiners be added without moving walls.

They are plain tuples of functions, no base classes. Axis letters: `b` batch, `k` ensemble member, `z y x` voxels,
`c` class, `n` tokens, `p` pixels of a token, `d` width. `params` is learned by gradients; `state` is what changes
without them (batch-norm statistics, the intensity normalisation).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

MEMBER_LOSS = "loss_member_{}"  # what `Method.evaluate` calls the loss of one ensemble member
DETAILS = (MEMBER_LOSS.format(""), "precision_", "recall_")  # metrics that are written, too many for a line
DEVICES = "devices"  # the mapped axis of all devices under which `training/` computes a loss on several of them


class Method(NamedTuple):
    """How something learns. `training/` runs any Method and knows none.

    init(key, batch) -> (params, state)
    loss(params, state, batch, key) -> (sum, weight, state, logs): the loss is sum / weight and never formed here, so
        that devices, shares of a batch and accumulation steps add up (design law 4). What it draws for a sample depends
        on the key and the sample's `index` alone. Shape () or (k,), one entry per ensemble member.
        `logs` is {name: (sum, count)}.
    evaluate(params, state, batch) -> {name: (sum, count)}; with members, MEMBER_LOSS of every one of them is among it:
        by that its best step is chosen
    preview(params, state, batch) -> {name: picture array} for a person to look at
    members: None, or k when every leaf of `params` carries a leading member axis
    member_state: names of the entries of `state`, then a dict, whose leaves carry it too
    apart: how many members one CPU may compute at a time, each by a program of one member, 0 for as many as it has
        cores: then `loss` is given trees of one member, batches whose arrays are (b, k, …) but for `index`, and the
        number of the member in shared["members"]. None: all members in one program
    """

    init: Callable[..., tuple[Any, Any]]
    loss: Callable[..., tuple[Any, Any, Any, dict]]
    evaluate: Callable[..., dict]
    preview: Callable[..., dict]
    members: int | None = None
    member_state: tuple[str, ...] = ()
    apart: int | None = None


class Segmenter(NamedTuple):
    """Image to member probabilities.

    predict(params, state, image) -> float32 (k, b, [z,] y, x, c), summing to 1 over c. `image` is float32
        (b, [z,] y, x) in the units of the file: the normalisation is the segmenter's own. Jit-able.
    window, stride: the model's input box and its lattice step in voxels, `dims` numbers each
    dims: 2 (slice by slice) or 3
    statistics: of a segmenter that learns nothing and works in numpy: statistics(image) -> what it has to know of the
        whole Volume `image`, as JSON, with sentences in "doubts" and "notes"; found once, when the output is made, and
        kept there. `predict` is then predict(found, image, box) -> float32 (k, z, y, x, c) in the Box of the Volume,
        of which it reads as much around as it needs; the same to the bit whatever the boxes.
    """

    predict: Callable[..., Any]
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dims: int
    statistics: Callable[..., dict] | None = None


class Refiner(NamedTuple):
    """Labels with hidden places to class probabilities everywhere.

    refine(params, state, inputs, key) -> float32 (b, [z,] y, x, c) over the refiner's own classes (never the ambiguous
        one), summing to 1. `inputs` holds labels int16 (b, [z,] y, x), -1 unknown or outside the volume; entropy
        float32 in [0, 1] and hidden bool of the same shape, hidden being constant inside a token; and, if `needs` names
        them, image float32 (b, [z,] y, x) in the units of the file, and probabilities float32 (b, [z,] y, x, c): the
        members' mean over the refiner's classes, as the segmentation was decided by; 0 outside the volume; or
        stored_probabilities, likewise, but of all classes of the scheme in steps of 1/255, as they are kept on disk
        between passes: they are not computed again for every pass. Jit-able.
        The caller composites: only hidden voxels are ever replaced, unless `everywhere`.
    window, stride: as in Segmenter; multiples of `token`
    token: side in pixels of the squares that are hidden as one
    sees_hidden: whether labels under hidden tokens reach `refine`. Only where what was published looks at them, because
        it knows no hidden places, or measures distances from what they hid; all others get -1 there (design law 3).
    lengths: where a window's work depends on what is in it, lengths(labels, hidden) -> int32 (b, n), of a small set:
        how many places it needs of what. `refine` then takes these n static numbers as a fifth argument, `lengths`,
        for a batch of windows none of which needs more; without, there are places for everything. The result is the
        same but for the last digits.
    everywhere: it says itself which voxels change, hidden or not: every voxel becomes what it says. Labels are seen.
    context: of a refiner of planes, slices above and below that it sees as well: `inputs` holds what `needs` names,
        (b, 2 context + 1, y, x[, c]), the first and last of the volume repeated beyond its ends, and, for one that sees
        hidden labels, so slices int16 (b, 2 context + 1, y, x) of labels: such slices nobody makes agree afterwards.
    caution: how many times as likely as the label that is there another one must be to take its place. Above 1 only of
        one that was told what the segmentation said there: it goes by labels under hidden tokens.
    slices: of a refiner that works on whole slices in numpy, one after the other, in place of `refine`:
        slices(voxel_size_nm) -> (reach, stream). stream(read, depth, labelled, start) -> iterator of labels int16
        (y, x), -1 where it says nothing, from slice `start` on; read: number of a slice -> its labels int16 (y, x);
        depth: how many there are; labelled: numbers of those whose labels are the truth. reach: how many slices around
        one its labels depend on.
    """

    refine: Callable[..., Any] | None
    window: tuple[int, ...]
    stride: tuple[int, ...]
    dims: int
    needs: tuple[str, ...]
    token: int
    sees_hidden: bool = False
    lengths: Callable[..., Any] | None = None
    everywhere: bool = False
    context: int = 0
    caution: float = 1.0
    slices: Callable[..., Any] | None = None

    @property
    def sees_probabilities(self) -> bool:
        """Whether it is given the segmentation's probabilities, under hidden tokens as well."""
        return bool({"probabilities", "stored_probabilities"} & {*self.needs})
