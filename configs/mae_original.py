"""The masked autoencoder of the original implementation (BioMaeRef): model, masking rule, loss, schedule.

    python train.py --config configs/mae_original.py --workdir runs/mae_original --config.data.ensemble=runs/ensemble

For comparison with configs/mae.py, and the home of imported checkpoints (maeref import-original). Class
ids are read as numbers; the nearest 70 % of the tokens by rank take part, whatever their distance; the loss is over
all of those, visible or not; positions x 0.08; constant AdamW. Its distance is measured from hidden labels too
(masking/original_rules.py). 250 epochs are as many steps as 250 times the tiles of the data (128 x 128, stride 64)
take in batches of 256; `steps` is that of the default phantoms: set it for your data. Crops, unlike there, lie
anywhere and in any orientation. Meant for a GPU or TPU. Modes:

    :smoke   seconds, learns nothing
"""

from configs import mae

MODES = ("", "smoke")


def get_config(mode):
    config = mae.get_config(mode)
    config.original.update({"rules": True, "keep": 0.7})
    config.update({"loss_over": "near", "class_weights": (0.16, 0.16, 0.36, 0.16, 0.16)})
    config.model.update({"one_hot": False, "position_weight": 0.08, "rotary": False})
    config.optimizer.update({"rate": 1.5e-4, "schedule": "constant", "warmup_steps": 0, "clip": 0.0})
    config.optimizer.update({"b1": 0.9, "b2": 0.999, "weight_decay": 1e-5})
    if not mode:
        tiles = 12 * 32 * 9  # volumes, slices of each, tiles of a slice
        config.steps = 250 * tiles // config.batch
    return config
