"""The convolutional autoencoder of label maps, a competitor of the masked autoencoder (docs/refiners.md).

    python train.py --config configs/autoencoder.py --workdir runs/autoencoder --config.data.ensemble=runs/ensemble

Six strided convolutions of 64-64-128-128-256-256, a dense middle, and the way back. `configs/autoencoder.py:denoising`
is the same network, trained to undo synthetic deterioration (Larrazabal et al. 2019). Data are those of configs/mae.py,
same size. Full width is meant for a GPU. Modes:

    :demo, :rendered, :urocell, :smoke   as for configs/mae.py
    :denoising                           as said, and :denoising_demo, :denoising_rendered, …
"""

from configs import mae

SIZES = mae.MODES
MODES = (*SIZES, *(f"denoising_{size}".removesuffix("_") for size in SIZES))
# Of masked training alone: nothing is hidden from an autoencoder, and it fills a window in one way.
WITHOUT = (
    "keep_within",
    "keep_within_nm",
    "mask_shapes",
    "curriculum",
    "masking_ratio",
    "loss_over",
    "original",
    "model",
    "use",
)


def get_config(mode):
    size = mode.removeprefix("denoising").removeprefix("_")
    config = mae.get_config(size)
    for name in WITHOUT:
        del config[name]
    config.method = "autoencoder"
    config.model = {
        "widths": (64, 64, 128, 128, 256, 256),
        "latent": 512,  # width of the dense middle
        "compute_dtype": "float32",  # or bfloat16; parameters stay float32
    }
    config.denoising = {
        "enabled": mode.startswith("denoising"),
        "clean": 0.1,  # so often a crop is shown as it is
        "blobs": 2,  # removed, added and swapped: up to so many of each
        "blob_radius_px": (3.0, 16.0),
        "rounds": 4,  # so often pixels may take over the label of a neighbour,
        "border_noise": 0.5,  # with up to this probability
        "speckles": 0.05,  # up to this share of the pixels gets a random class
    }
    config.optimizer.b2 = 0.999
    if size:
        config.update({"window": (64, 64), "stride": (32, 32)})
    if size in ("demo", "rendered", "urocell"):
        config.model.update({"widths": (32, 32, 64, 64, 128, 128), "latent": 256})
        config.denoising.blob_radius_px = (2.0, 10.0)
    if size == "smoke":
        config.model.update({"widths": (8,) * 6, "latent": 8})
    return config
