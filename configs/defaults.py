"""Not an experiment: what the training configs have in common. They override what they need otherwise."""

import os

from ml_collections.config_dict import placeholder

# Paper's scheme and colours. The ambiguous class, if there is one, comes last; -1 for none.
CLASSES = {
    "names": ("background", "intermembrane", "cristae", "matrix", "ambiguous"),
    "colours": ((0, 0, 0), (40, 90, 255), (40, 200, 80), (250, 220, 60), (150, 150, 150)),
    "ambiguous": 4,
}


def public(name):
    """The folder of public data that the environment variable MAEREF_DATA leads to; "data" where it is not set."""
    return os.path.join(os.environ.get("MAEREF_DATA", "data"), name)


def files(images=(), labels=(), entropy=(), labelled_slices=(), within=()):
    """Volumes given as files; a path may end in a range of slices, like stack.tif[0:8].

    labelled_slices: what of the labels counts, of a path with a range counted from its first slice: numbers and ranges
    for every volume, ("0:160:5",) or (0, 7, "20:30"); or such a tuple for each; () all. Of phantoms too.
    within: a mask for every volume, such as tissue (docs/tissue.md), "" for none: outside nothing is known or learned.
    """
    given = {"images": images, "labels": labels, "entropy": entropy, "labelled_slices": labelled_slices}
    return {**given, "within": within}


def reading():
    """How files are read that do not say it, or say it wrongly, and how far they are trusted; all are flags."""
    return {
        "axes": "",  # as stored, e.g. ZYX
        "voxel_size_nm": placeholder(tuple),  # z, y, x of the files; the model's own is another setting
        "at_voxel_size_nm": placeholder(tuple),  # z, y, x that they are read at; the model's own is the same then
        "channel": placeholder(str),  # of files that have several: index from 0, or name
        **trust(),
    }


def trust():
    """How far a user's files are trusted, see docs/formats.md."""
    return {
        "follow_links": False,  # files and folders may lead to files outside of themselves
        "unpacked_gb": 16.0,  # what a packed file may become on disk (TMPDIR)
        "piece_gb": 0.5,  # memory for what is unpacked at once: a chunk, a plane
    }


def training(**optimizer):
    """How any network is trained; the arguments replace settings of the optimizer."""
    return {
        "optimizer": {
            "name": "adamw",  # or adam, adamax, rmsprop
            "rate": 1e-3,
            "schedule": "cosine",  # or constant, step, plateau
            "warmup_steps": 100,
            "decay": 0.5,  # step and plateau: what the rate is multiplied by
            "decay_steps": 5000,  # step: after so many steps, every time
            "patience": 3,  # plateau: after so many evaluations without a better score
            "clip": 1.0,  # largest norm of a gradient; 0 for none
            "b1": 0.9,
            "b2": 0.999,
            "weight_decay": 1e-5,
            "accumulate": 1,  # micro-batches that make up a batch, one after another, to save memory
            "average": 0.0,  # decay of a moving average of the weights, which is then what is used; 0 for none
            **optimizer,
        },
        "checkpoint": {
            "minutes": 10.0,  # also save when this time has passed; 0 for evaluations only
            "patience_s": 8.0,  # after a signal, to finish a step and save; schedulers kill after 10 s and more
            "keep": 2,  # the last so many, beside the best
            "best": "loss",  # a validation metric; -NAME where the highest is the best
        },
        "stop_after": 0,  # stop early, after so many evaluations without a better score; 0 never
        "init_from": "",  # workdir to start from instead of random weights
    }
