"""Networks that learn from single clicks: a hierarchical variational autoencoder says the class of a voxel from what
lies around it (ε-Seg, NeurIPS 2025, arXiv 2510.18637; docs/sparse_labels.md).

    python train.py --config configs/sparse_labels.py --workdir runs/clicks
    python refine.py --input stack.tif --ensemble runs/clicks --refiner none --output segmented

The published size, meant for a GPU; not run yet. Modes:

    :demo     small networks on phantoms, one click a class and slice
    :smoke    seconds, learns nothing

Labels of your own: --images, --labels, in which 255 is what nobody said, --validation_images, --validation_labels,
--classes, --voxel_size_nm.
"""

from ml_collections import ConfigDict

from configs.defaults import CLASSES, files, reading, training

MODES = ("", "demo", "smoke")


def get_config(mode):
    config = ConfigDict(
        {
            "method": "sparse_labels",
            "seed": 0,
            # clicks alone; or then pseudo_labels as well, which voxels near the clicks are given.
            "phases": ("clicks", "pseudo_labels"),
            "steps": 100_000,
            "batch": 128,  # clicks a member and step, of every class equally often
            "members": 3,
            "member_share": 0.8,  # of the clicks of every class, which a member learns from
            "member_mapping": "auto",  # or vmap, unroll, scan: the results are the same
            "member_chunk": 0,  # members computed at a time, where all do not fit into memory; 0 for all
            "window": (64, 64),  # what the network sees around a voxel; or three numbers
            "margin": 0,  # around it, so far the first convolutions look as well; docs/sparse_labels.md
            # In use, where use.dense is off: every so many voxels are asked, what lies between is interpolated.
            "stride": (2, 2),
            "symmetries": False,  # whether crops are turned and mirrored; not published
            "hidden": {
                "side": 1,  # voxels a side of the middle that is hidden and painted in again
                "ring": 0,  # what is seen there: 0, the mean; or of a ring of so many voxels around it
            },
            "losses": {
                "inpainting": 1.0,
                "divergence": 0.01,
                "contrastive": 0.1,
                "cross_entropy": 1.0,
                "margin": 20.0,  # how far apart the latents of two classes are wanted
                "prior_height": 5.0,  # of the mean of a class's component, in the channels that are its own
            },
            "pseudo_labels": {
                "steps": 20_000,
                "rate": 3e-5,
                "groups": 16,  # clicks a member and step, each with its neighbours
                "neighbours": 7,
                "radius_vx": 5.0,
                "temperature": 200.0,  # of the softmax over minus the squared distances to the classes' mean latents
                "threshold": 0.5,  # confidence above which a label is taken: at first,
                "threshold_growth": 0.005,  # how much higher after each
                "threshold_every": 100,  # so many steps, and
                "highest_threshold": 0.99,
            },
            "normalisation": "training",  # or "volume", as in configs/ensemble.py
            "evaluate_every": 100,
            "judged_at_once": 128,  # clicks a call in validation
            "classes": {
                "names": CLASSES["names"][:4],
                "colours": CLASSES["colours"][:4],
                "ambiguous": -1,
            },
            # When predicting: dense, convolutions once over a tile, and not once for every voxel
            # (benchmarks/dense_patches.py); tile, voxels at a time, which overlap by a window; symmetries, the mean
            # over the orientations of the plane, 8 times the work.
            "use": {"dense": True, "tile": (192, 192), "symmetries": False},
            "voxel_size_nm": (20.0, 10.0, 10.0),  # z, y, x of the training volumes; the workdir remembers it
            "model": {
                "levels": 3,
                "blocks": 5,  # residual blocks a level
                "filters": 64,  # twice the latent channels
                "latent": 32,
                "compute_dtype": "float32",  # or bfloat16; parameters and distances stay float32
                "remat": False,  # recompute activations in the backward pass: slower, less memory
            },
            **training(
                name="adamax", rate=3e-5, schedule="plateau", warmup_steps=0, decay=0.9, patience=10, weight_decay=0.0
            ),
            "data": {
                # Phantoms by seed, of which so many voxels of every class and slice are labelled; or files.
                "phantom": {"train": tuple(range(8)), "validation": (8, 9), "shape": (32, 256, 256), "clicks": 1},
                "train": files(),
                "validation": files(),
                "label_map": (),
                "shell_class": -1,
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    config.stop_after = 150
    if mode in ("demo", "smoke"):
        config.update({"window": (32, 32), "symmetries": True, "members": 2, "stop_after": 0})
        config.model.update({"blocks": 1, "filters": 16, "latent": 8})
        config.use.tile = (96, 96)
        config.voxel_size_nm = (12.0, 6.0, 6.0)
        config.data.phantom.update({"train": (0, 1, 2, 3), "validation": (8,), "shape": (24, 112, 112)})
    if mode == "demo":
        config.update({"batch": 16, "steps": 600, "evaluate_every": 100})
        config.optimizer.update({"rate": 3e-3, "schedule": "cosine", "warmup_steps": 30, "name": "adamw"})
        config.pseudo_labels.update({"steps": 150, "rate": 5e-4, "groups": 8, "neighbours": 3, "radius_vx": 3.0})
        config.pseudo_labels.update({"temperature": 20.0, "threshold_growth": 0.1, "threshold_every": 50})
    if mode == "smoke":
        config.update({"window": (16, 16), "batch": 4, "steps": 4, "evaluate_every": 2, "judged_at_once": 8})
        config.model.update({"levels": 1, "blocks": 1, "filters": 8, "latent": 4})
        config.use.tile = (32, 32)
        config.pseudo_labels.update({"steps": 2, "groups": 2, "neighbours": 2, "radius_vx": 2.0})
        config.data.phantom.update({"train": (0, 1), "validation": (2,), "shape": (4, 64, 64)})
    return config
