"""A convolutional inpainter with the masks of the masked autoencoder, a competitor of it (docs/refiners.md).

    python train.py --config configs/inpainter.py --workdir runs/inpainter --config.data.ensemble=runs/ensemble

Data, crops, masks, loss and optimiser are those of configs/mae.py, same mode; the network is a U of gated convolutions.
Full width is meant for a GPU. Modes:

    :demo    small, minutes on 2 CPU cores
    :rendered, :urocell   the same size, as for configs/mae.py
    :smoke   seconds, learns nothing
"""

from configs import mae

MODES = mae.MODES
# Of the masked autoencoder alone: an inpainter has no distance beyond which nothing takes part.
WITHOUT = ("keep_within", "keep_within_nm", "original", "model")


def get_config(mode):
    config = mae.get_config(mode)
    for name in WITHOUT:
        del config[name]
    config.method = "inpainter"
    config.model = {
        "widths": (64, 128, 256, 256),
        "dilations": (1, 2, 4, 8),
        "compute_dtype": "float32",  # or bfloat16; parameters stay float32
    }
    if mode in ("demo", "rendered", "urocell"):
        config.model.update({"widths": (24, 48, 64), "dilations": (1, 2, 4)})
    if mode == "smoke":
        config.model.update({"widths": (8, 8), "dilations": (1, 2)})
    return config
