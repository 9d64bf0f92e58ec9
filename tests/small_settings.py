"""Settings of small networks, and batches for them, that tests of several rooms work with."""

import numpy as np

# Augmentation that changes nothing.
NOTHING = {
    "symmetries": False, "contrast": 0.0, "brightness": 0.0, "gamma": 0.0, "noise": 0.0, "blur_vx": 0.0,
    "low_signal": 0, "low_signal_radius_vx": (8.0, 18.0), "low_signal_noise": 0.08,
    "elastic_vx": 0.0, "elastic_spacing_vx": 32.0, "piecewise_share": 0.0, "piecewise_grid": 4,
    "rotation_degrees": 0.0,
}  # fmt: skip
# A masked autoencoder.
MASKED = {
    "token": 4,
    "window": (16, 24),
    "stride": (8, 8),
    "keep_within": 2.0,
    "threshold": 0.4,
    "train_threshold": 0.1,
    "classes": {"names": ("background", "shell", "inside", "ambiguous"), "ambiguous": 3},
    "class_weights": (1.0, 1.0, 1.0),
    "mask_shapes": (1.0, 0.0, 0.0),
    "keep_within_nm": 0.0,
    "curriculum": 0.0,
    "loss_over": "hidden",
    "original": {"rules": False, "keep": 1.0},
    "use": {"symmetries": False, "rounds": 1, "samples": 0},
    "model": {
        "encoder_width": 16, "encoder_depth": 1, "encoder_heads": 2,
        "decoder_width": 8, "decoder_depth": 1, "decoder_heads": 2, "mlp_ratio": 2.0, "compute_dtype": "float32",
    },
}  # fmt: skip


def batch_of(token, classes, window, hidden_count, seed=0):
    rng = np.random.default_rng(seed)
    tokens = window[0] * window[1] // token**2
    return {
        "labels": rng.integers(0, classes, (2, *window)).astype(np.int16),
        "entropy": np.zeros((2, *window), np.float32),
        "index": np.arange(2, dtype=np.int32),
        "shared": {"hidden_count": np.int32(hidden_count), "slots": np.arange(tokens, dtype=np.int32)},
    }


VARIED = {**NOTHING, "symmetries": True, "brightness": 0.1, "noise": 0.1}
# Of an ensemble, the smallest network there is: what it is made of is tested in test_unet.py.
ENSEMBLE = {
    "members": 3,
    "member_mapping": "auto",
    "member_chunk": 0,
    "window": (8, 8),
    "stride": (4, 4),
    "voxel_size_nm": (20.0, 10.0, 10.0),
    "classes": {"names": ("background", "inside", "ambiguous"), "ambiguous": 2},
    "class_weights": (1.0, 1.0, 1.0),
    "loss": "cross_entropy",
    "ambiguous_as": "class",
    "augmentation": NOTHING,
    "use": {"symmetries": False, "foreground_threshold": 0.5},
    "model": {
        "widths": (4,), "strides": (), "plane_levels": 0, "norm": "batch", "block": "plain", "remat": False,
        "compute_dtype": "float32",
    },
}  # fmt: skip
