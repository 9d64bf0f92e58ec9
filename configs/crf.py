"""The fully connected conditional random field, a competitor of the masked autoencoder (Krähenbühl & Koltun 2011).

    python train.py --config configs/crf.py --workdir runs/crf --config.data.ensemble=runs/ensemble

Nothing is learned: `trials` settings, drawn from the grid of `search`, are tried on validation volumes and the best one
by macro Dice inside hidden tokens is kept; runs/crf/metrics.jsonl has them all. Without --config.data.ensemble the
ensemble of configs/ensemble.py, same mode, is trained first, in WORKDIR/ensemble. It needs the image and class
probabilities: refine.py takes it with --ensemble, or with --probabilities and --input, not with --labels. As published
it works on everything: refine.py --threshold 0. Meant for a GPU (not timed yet; windows of 128 x 128 pixels, all pairs
of pixels); on 2 CPU cores hours. Modes:

    :demo      small windows, about a minute on 2 CPU cores
    :rendered  the same on rendered real shapes, as in configs/mae.py, and :urocell
    :smoke     seconds

Your own volumes: --validation_images a.tif --validation_labels a_label.tif, with --ensemble.
"""

from ml_collections import ConfigDict

from configs import urocell
from configs.defaults import CLASSES, files, reading
from configs.ensemble import REAL_SHAPES

MODES = ("", "demo", "rendered", "urocell", "smoke")


def get_config(mode):
    config = ConfigDict(
        {
            "method": "crf",
            "seed": 0,
            "token": 4,
            "window": (128, 128),
            "stride": (64, 64),
            "threshold": 0.4,  # tokens above this mean entropy are hidden: where candidates are judged, and in use
            "ambiguous_threshold": 0.5,  # so are tokens of higher mean probability of "ambiguous"
            "chunk": 1024,  # pixels whose kernels to all others are in memory at a time
            "trials": 100,  # settings to try; the first one changes nothing
            # Weights of the two kernels; standard deviations in pixels, and of intensity in units of the image's range.
            "search": {
                "smoothness_weight": (0.0, 1.0, 3.0, 10.0),
                "smoothness_vx": (1.0, 2.0, 3.0, 5.0),
                "appearance_weight": (0.0, 1.0, 3.0, 10.0, 30.0),
                "appearance_vx": (3.0, 5.0, 10.0, 20.0, 40.0),
                "appearance_intensity": (0.02, 0.05, 0.1, 0.2, 0.4),
                "iterations": (5, 10),
            },
            "score_classes": (),  # whose Dice is averaged to compare them; all but background if empty
            "batch": 8,
            "validation_batches": 8,  # of so many windows with hidden tokens at most
            "classes": CLASSES,
            "voxel_size_nm": (20.0, 10.0, 10.0),
            "data": {
                "ensemble": "",  # workdir of the ensemble whose probabilities it works on; empty trains one first
                "phantom": {"validation": (22,), "shape": (32, 256, 256)},
                "validation": files(),
                "label_map": (),
                "shell_class": -1,
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    if mode:
        config.update({"window": (64, 64), "stride": (32, 32), "trials": 40, "validation_batches": 2})
        config.data.phantom.update({"validation": (22,), "shape": (24, 96, 96)})
    if mode in ("demo", *REAL_SHAPES):
        # As configs/mae.py:demo, so that both repair the same tokens.
        config.voxel_size_nm = (12.0, 6.0, 6.0)
        config.update({"threshold": 0.75, "ambiguous_threshold": 0.3})
    if mode in REAL_SHAPES:
        shapes = REAL_SHAPES[mode]
        config.voxel_size_nm = shapes.VOXEL_SIZE_NM
        config.data.ensemble = shapes.ENSEMBLE
        config.data.phantom.validation = ()
        config.data.validation = files(*(shapes.paths("validation", role) for role in ("image", "truth")))
    # As it is judged: cristae and matrix; what the validation volumes have of organelles.
    config.score_classes = {"rendered": (2, 3), "urocell": (1, 2, 3)}.get(mode, ())
    if mode == "urocell":
        config.classes = urocell.CLASSES
    if mode == "smoke":
        config.update({"window": (32, 32), "stride": (16, 16), "trials": 3, "validation_batches": 1, "chunk": 256})
        config.data.phantom.update({"validation": (4,), "shape": (4, 64, 64)})
    return config
