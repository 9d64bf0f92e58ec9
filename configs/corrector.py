"""A corrector: it learns from the ensemble's own mistakes where a segmentation is wrong, and what is there.

    python train.py --config configs/corrector.py --workdir runs/corrector --config.data.ensemble=runs/ensemble
    python refine.py --input image.tif --ensemble runs/ensemble --refiner runs/corrector --hide_by error --output out

It reads the class probabilities of a slice and of those above and below it, so it works on those of any segmenter, too:
refine.py --probabilities. Every annotated volume is predicted by the members that never saw it, as it is and in copies
with less signal (docs/refiners.md). On phantoms, without --config.data.ensemble, the ensemble of configs/ensemble.py,
same mode, is trained first, in WORKDIR/ensemble. Meant for a GPU; not timed yet. Modes:

    :demo      small, on the phantoms of configs/ensemble.py:demo; minutes on 2 CPU cores
    :rendered  the same on rendered real shapes (configs/render_mef_cristae.py), half an hour
    :urocell   the same on rendered organelles of other classes (configs/render_urocell.py)
    :smoke     seconds, learns nothing

Your own volumes: --images a.tif b.tif --labels a_label.tif b_label.tif --validation_images c.tif --validation_labels
c_label.tif; without --labels it learns from the ensemble's own labels of the images, where it is sure.
"""

from ml_collections import ConfigDict

from configs import urocell
from configs.defaults import CLASSES, files, reading, training
from configs.ensemble import REAL_SHAPES

MODES = ("", "demo", "rendered", "urocell", "smoke")


def get_config(mode):
    config = ConfigDict(
        {
            "method": "corrector",
            "seed": 0,
            "steps": 20_000,
            "batch": 16,
            "context": 2,  # slices above and below that it sees as finely as the one that it judges
            "with_image": False,  # it sees the image as well; then it knows one kind of image
            "token": 4,
            "window": (128, 128),  # or three numbers: all slices of a box are judged together
            "stride": (64, 64),
            "min_foreground": 0.05,  # of a crop
            "anywhere_share": 0.3,  # share of crops drawn wherever there is a known label
            "threshold": 0.4,  # tokens above this mean entropy are hidden, unless it says itself which are (--hide_by)
            "ambiguous_threshold": 0.5,  # so are tokens of higher mean probability of "ambiguous"
            # Chosen after training: the gain that a token must promise to be hidden, and the caution (`use`). Of those
            # that hide no more than this share of the voxels of validation volumes, and repair so many voxels or more
            # for each that they break, the ones that win most.
            "most_hidden": 0.1,
            "repaired_per_broken": 6.0,
            "train_threshold": 0.1,  # of images without labels: what the ensemble says below this entropy is the truth
            # Copies of every volume whose signal is taken away in places: fields of phantoms/low_signal.py, and
            # artefacts of phantoms/artefacts.py, one after the other.
            "degraded": {
                "copies": 2,
                "regions": {
                    "radius_vx": (8.0, 32.0),
                    "stretch": (1.0, 1.4),
                    "on_mitochondria": 24.0,  # as many as usual would cover half of the foreground
                    "in_cytoplasm": 5.0,
                },
                "artefacts": (),
            },
            "evaluate_every": 1000,
            "validation_batches": 16,
            "normalisation": "training",  # of images, as in configs/ensemble.py
            "classes": CLASSES,
            "class_weights": (1.0, 1.0, 1.0, 1.0, 1.0),
            "voxel_size_nm": (20.0, 10.0, 10.0),
            "model": {
                "widths": (32, 64, 128, 256),
                "strides": ((2, 2), (2, 2), (2, 2)),
                "plane_levels": 0,  # of boxes alone: so many of the finest levels convolve in the plane
                "norm": "group",  # or instance, none
                "compute_dtype": "float32",  # or bfloat16; parameters stay float32
            },
            # How it is used: the mean over the symmetries of the square; and, of gain.json once these are chosen, the
            # temperature of its probabilities, the gain above which it hides, and how many times as likely as a label
            # another one must be to replace it.
            "use": {"symmetries": False, "temperature": 1.0, "gain": 0.05, "caution": 1.0},
            **training(weight_decay=1e-4),
            "data": {
                "ensemble": "",
                "ensemble_mode": mode,
                "phantom": {"train": tuple(range(8)), "validation": (8, 9), "shape": (32, 256, 256)},
                "train": files(),
                "validation": files(),
                "label_map": (),
                "shell_class": -1,
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    # Who has become too sure loses by the loss, but not in use: a temperature is fitted after training.
    config.checkpoint.best = "-accuracy"
    if mode:
        config.update({"window": (64, 64), "stride": (32, 32), "batch": 8, "validation_batches": 8})
        config.model.update({"widths": (24, 48, 96, 96)})
        config.data.phantom.shape = (24, 112, 112)
    if mode in ("demo", *REAL_SHAPES):
        config.voxel_size_nm = (12.0, 6.0, 6.0)
        config.update({"steps": 1200, "evaluate_every": 300, "threshold": 0.75, "ambiguous_threshold": 0.3})
        config.optimizer.update({"rate": 2e-3, "warmup_steps": 50})
    if mode in REAL_SHAPES:
        shapes = REAL_SHAPES[mode]
        config.voxel_size_nm = shapes.VOXEL_SIZE_NM
        config.data.ensemble = shapes.ENSEMBLE
        config.update({"steps": 5000, "evaluate_every": 1000})
        config.data.phantom.update({"train": (), "validation": ()})
        # These volumes are large, and each is predicted as often as it has copies: some of their slices are enough.
        part = "[0:24]" if mode == "urocell" else ""
        for split in ("train", "validation"):
            images, labels = (shapes.paths(split, role) for role in ("image", "annotated"))
            config.data[split] = files(*(tuple(path + part for path in paths) for paths in (images, labels)))
    if mode == "urocell":
        config.update({"classes": urocell.CLASSES, "class_weights": (1.0,) * 5})
    if mode == "smoke":
        config.update({"steps": 4, "evaluate_every": 2, "batch": 4, "window": (32, 32), "stride": (16, 16)})
        config.update({"validation_batches": 1, "context": 1})
        config.degraded.copies = 1
        config.model.update({"widths": (4, 8), "strides": ((2, 2),)})
        config.data.phantom.update({"train": (0, 1), "validation": (2,), "shape": (12, 64, 64)})
    return config
