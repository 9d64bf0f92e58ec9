"""The masked autoencoder on label maps of phantoms, as an ensemble segments them (paper section 3.3).

    python train.py --config configs/mae.py --workdir runs/mae --config.data.ensemble=runs/ensemble

The paper's architecture (encoder 128 x 14, decoder 64 x 7, crops of 128 x 128, batch 256): meant for a GPU or TPU, days
on a CPU. Without --config.data.ensemble the ensemble of configs/ensemble.py, same mode, is trained first, in
WORKDIR/ensemble. It never learns from the phantoms' truth, only from the ensemble's predictions where their entropy is
low, and from members that have not seen the volume if it was annotated. Modes:

    :demo      small, for `make demo`, three to four minutes on 2 CPU cores
    :rendered  the same size, on what runs/rendered/ensemble says of real shapes (configs/render_mef_cristae.py)
    :urocell   the same on what runs/urocell/ensemble says of organelles (configs/render_urocell.py)
    :smoke     seconds, learns nothing

Your own images: --ensemble, which segments them, --images a.tif b.tif, --validation_images c.tif and, to know whether
it helps, --validation_labels c_label.tif, which judge it and are never learned from. Your own label maps: --labels and
--validation_labels; entropy volumes in data.train.entropy, or none, and every known label counts.
"""

from ml_collections import ConfigDict

from configs import urocell
from configs.defaults import CLASSES, files, reading, training
from configs.ensemble import REAL_SHAPES

MODES = ("", "demo", "rendered", "urocell", "smoke")


def get_config(mode):
    config = ConfigDict(
        {
            "method": "mae",
            "seed": 0,
            "steps": 20_000,
            "batch": 256,
            "token": 4,
            "window": (128, 128),
            "stride": (64, 64),
            "min_foreground": 0.3,  # of a crop
            "anywhere_share": 0.0,  # share of crops drawn wherever there is a known label
            "masking_ratio": (0.1, 0.9),
            "keep_within": 8.0,  # token sides from visible foreground; farther visible tokens take no part
            "keep_within_nm": 0.0,  # the same in nanometres, by voxel_size_nm; 0: keep_within decides
            "mask_shapes": (1.0, 0.0, 0.0),  # how often training hides scattered tokens, blobs, others' entropy maps
            "curriculum": 0.0,  # share of the training that goes from scattered tokens alone to mask_shapes; 0: none
            "loss_over": "hidden",  # or near: visible tokens count as well
            "threshold": 0.4,  # tokens above this mean entropy are hidden, in training as in use
            "ambiguous_threshold": 0.5,  # so are tokens of higher mean probability of "ambiguous"
            "train_threshold": 0.1,  # pixels at or above this entropy do not count in the loss
            "evaluate_every": 1000,
            "validation_batches": 4,
            "classes": CLASSES,
            "class_weights": (1.0, 1.0, 1.0, 1.0),
            "voxel_size_nm": (20.0, 10.0, 10.0),
            "model": {
                "encoder_width": 128,
                "encoder_depth": 14,
                "encoder_heads": 1,
                "decoder_width": 64,
                "decoder_depth": 7,
                "decoder_heads": 8,
                "mlp_ratio": 2.0,
                "one_hot": True,  # or the class id as a number
                "position_weight": 1.0,  # of the encoder's fixed positions
                "rotary": True,
                "compute_dtype": "float32",  # or bfloat16; parameters stay float32
                "remat": False,  # recompute activations in the backward pass: less memory, slower; on CPUs always done
            },
            # How refine.py uses it, unless told otherwise: the mean over the symmetries of the square; filled in so
            # many rounds, the most certain tokens first; the agreement of so many sampled fillings, 0 for none.
            "use": {"symmetries": False, "rounds": 1, "samples": 0},
            # Rules of the original implementation, see configs/mae_original.py and masking/original_rules.py.
            "original": {"rules": False, "keep": 0.7},
            **training(warmup_steps=1000, b2=0.95, weight_decay=0.05),
            "data": {
                "ensemble": "",  # workdir of the ensemble that segments the phantoms; empty trains one first,
                "ensemble_mode": mode,  # of configs/ensemble.py in this mode
                "phantom": {"train": tuple(range(10, 22)), "validation": (22,), "shape": (32, 256, 256)},
                "train": files(),
                "validation": files(),
                "label_map": (),
                "shell_class": -1,
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    if mode:
        config.update({"batch": 24, "window": (48, 48), "stride": (24, 24)})
        config.model.update({"encoder_width": 64, "encoder_depth": 4, "encoder_heads": 4})
        config.model.update({"decoder_width": 64, "decoder_depth": 2, "decoder_heads": 4})
        config.data.phantom.update({"train": tuple(range(10, 20)), "validation": (22,), "shape": (24, 96, 96)})
        config.optimizer.update({"rate": 2e-3, "warmup_steps": 100})
    if mode in ("demo", *REAL_SHAPES):
        config.voxel_size_nm = (12.0, 6.0, 6.0)
        config.update({"batch": 16, "steps": 3000, "evaluate_every": 1500, "min_foreground": 0.3})
        # U-Nets of two minutes are hardly ever 0.1-sure of a thin crista; thresholds chosen on phantoms 30 to 32,
        # which nobody trains on or is judged on.
        config.update({"threshold": 0.75, "ambiguous_threshold": 0.3, "train_threshold": 0.75})
    if mode in REAL_SHAPES:
        shapes = REAL_SHAPES[mode]
        config.voxel_size_nm = shapes.VOXEL_SIZE_NM
        config.update({"window": (64, 64), "stride": (32, 32), "steps": 2000, "evaluate_every": 1000})
        config.data.ensemble = shapes.ENSEMBLE
        config.data.phantom.update({"train": (), "validation": ()})
        config.data.train = files(shapes.paths("train", "image"))
        # What was annotated of these judges it when it has learned, and is never learned from.
        config.data.validation = files(*(shapes.paths("validation", role) for role in ("image", "annotated")))
    if mode == "urocell":
        config.update({"classes": urocell.CLASSES, "class_weights": (1.0,) * 5})
    if mode == "smoke":
        config.update({"steps": 4, "evaluate_every": 2, "batch": 8, "window": (32, 32), "stride": (16, 16)})
        # One masking ratio, one program to compile.
        config.update({"min_foreground": 0.05, "validation_batches": 1, "masking_ratio": (0.5, 0.5)})
        # An ensemble of four steps is undecided everywhere; without this nothing would be visible or count.
        config.update({"threshold": 1.0, "train_threshold": 1.1})
        config.model.update({"encoder_width": 16, "encoder_depth": 1, "decoder_width": 16, "decoder_depth": 1})
        config.data.phantom.update({"train": (3,), "validation": (4,), "shape": (12, 64, 64)})
    return config
