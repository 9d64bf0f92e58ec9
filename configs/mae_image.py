"""The masked autoencoder that sees the image as well (MAE+X), a competitor of it (docs/refiners.md).

    python train.py --config configs/mae_image.py --workdir runs/mae_image --config.data.ensemble=runs/ensemble

Data, crops, masks, loss, optimiser and the network of the labels are those of configs/mae.py, same mode; beside it a
second encoder sees the whole image. Your own label maps: as there, with --images and --validation_images too.
refine.py then needs --input beside --labels. Meant for a GPU or TPU. Modes:

    :demo    small, minutes on 2 CPU cores
    :rendered, :urocell   the same size, as for configs/mae.py
    :smoke   seconds, learns nothing
"""

from configs import mae

MODES = mae.MODES


def get_config(mode):
    config = mae.get_config(mode)
    del config.original
    config.method = "mae_image"
    config.normalisation = "training"  # or volume: every volume in its own range of grey values
    names = ("width", "depth", "heads")
    config.image_model = {name: config.model[f"encoder_{name}"] for name in names}  # of the image's encoder
    return config
