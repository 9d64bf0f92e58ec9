"""A U-Net that makes masks continuous along z: it sees 15 adjacent slices of them and gives the middle one. From arXiv
2206.02392, ISBI 2022 (docs/refiners.md).

    python train.py --config configs/continuity_network.py --workdir runs/network --classes background,cell --voxel_size_nm 5,5,5 --labels masks.tif --config.data.train.targets=repaired.tif --validation_labels other.tif --config.data.validation.targets=other_repaired.tif

Masks are a segmentation as it is, of labelled and unlabelled slices alike; targets are what `refine.py --refiner
continuity` made of them with labelled slices, the truth where they are labelled. The config spatial_continuity does all
that by itself. The published network, meant for a GPU; not timed yet. Modes:

    :small   narrow, for stacks at half resolution on 2 CPU cores
    :smoke   seconds, learns nothing
"""  # noqa: E501 (a command to copy is one line)

from ml_collections import ConfigDict

from configs.defaults import files, reading, training

MODES = ("", "small", "smoke")


def get_config(mode):
    config = ConfigDict(
        {
            "method": "continuity_network",
            "seed": 0,
            "steps": 6000,
            "batch": 16,
            "slices": 15,  # that it sees, an odd number; as published, of 5 nm
            "slices_nm": 0.0,  # the same as a length, by voxel_size_nm; 0: slices decides
            "token": 4,
            "window": (256, 256),
            "stride": (128, 128),
            "min_foreground": 0.03,  # of a crop's target
            "anywhere_share": 0.4,  # share of crops drawn wherever there is a known label
            "labelled_weight": 1.0,  # of pixels of labelled slices, whose target is the truth
            "threshold": 0.4,  # tokens above this mean entropy are hidden, where it works at hidden tokens alone
            "ambiguous_threshold": 0.5,  # so are tokens of higher mean probability of "ambiguous"
            "evaluate_every": 500,
            "validation_batches": 4,
            "classes": {
                "names": ("background", "foreground"),
                "colours": ((0, 0, 0), (250, 220, 60)),
                "ambiguous": -1,
            },
            "class_weights": (1.0, 1.0),
            "voxel_size_nm": (5.0, 5.0, 5.0),
            "model": {
                "widths": (64, 128, 256, 512),
                "strides": ((2, 2), (2, 2), (2, 2)),
                "norm": "group",  # or instance, none
                "compute_dtype": "float32",  # or bfloat16; parameters stay float32
            },
            # How refine.py uses it, unless told otherwise: the mean over the symmetries of the square; everywhere, as
            # published, or at hidden tokens alone.
            "use": {"symmetries": True, "everywhere": True},
            **training(),
            "data": {
                "phantom": {"train": (), "validation": ()},
                "train": {**files(), "targets": ()},  # labels are the masks; labelled_slices, those with the truth
                "validation": {**files(), "targets": ()},
                "foreground_threshold": 0.5,  # the probability from which on the masks have called foreground so
                "label_map": (),
                "shell_class": -1,
                "shell_vx": 0.0,
                **reading(),
            },
        }
    )
    if mode == "small":
        config.update({"steps": 800, "batch": 4, "evaluate_every": 200})
        config.model.update({"widths": (16, 32, 64, 96)})
        config.optimizer.update({"rate": 3e-3, "warmup_steps": 30})
    if mode == "smoke":
        config.update({"steps": 2, "batch": 2, "evaluate_every": 1, "validation_batches": 1, "slices": 5})
        config.update({"window": (32, 32), "stride": (16, 16)})
        config.model.update({"widths": (4, 8), "strides": ((2, 2),)})
    return config
