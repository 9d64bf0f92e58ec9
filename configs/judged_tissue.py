"""Not an experiment: what the modes :tissue… of configs/evaluate.py judge, and on what."""

import os

from configs import texture, tissue, tissue_mask

CLEANING = ("close_nm", "fill_holes", "open_nm", "keep", "smallest_vx", "grow_nm")  # of configs/tissue_mask.py
LENGTHS = ("window_nm", "texture_nm", "edge_nm")
# Of LENGTHS: how far around a voxel its texture is looked at, and two widths of smoothing.
SIZES = ((900.0, 80.0, 40.0), (500.0, 160.0, 80.0))
SMOOTHED = ((900.0, 80.0, 40.0), (900.0, 240.0, 120.0))
NETWORKS = {"tissue": "tissue", "tissue_small": "tissue_small"}  # mode: folder of runs/


def group(seeds, kind="mixed", real="", voxel_nm=80.0, shift=""):
    """Blocks of one column. kind, shift: of phantoms/tissue.py, or pasted, with real: one of `textures`."""
    return {"seeds": tuple(seeds), "kind": kind, "texture": real, "voxel_nm": voxel_nm, "shift": shift}


def settings(mode):
    """`tissue` of configs/evaluate.py."""
    smoke = mode == "tissue_smoke"
    asked = tissue_mask.get_config()
    usual = {name: asked[name] for name in CLEANING}
    published = texture.get_config("").to_dict()
    unseen = tissue.texture("vnc_sstem", "image.tif", (45.0, 4.6, 4.6), {"test": (0.0, 1.0)})
    found = {
        "networks": {} if smoke else {"network": os.path.join("runs", NETWORKS[mode])},
        # Rows: settings of configs/texture.py, or a feature alone, and the sizes that are tried on validation blocks.
        "texture": {
            "texture": (published, (tuple(published["lengths"][name] for name in LENGTHS),)),
            "texture, other sizes": (published, SIZES),
        },
        "features": {
            "local entropy": ("entropy", SMOOTHED),
            "difference of Gaussians": ("differences", SMOOTHED),
        },
        "cleaning": {"open_nm": 100.0, "smallest_um3": 0.2, "usual": usual},
        "textures": {"seen": tissue.seen_texture(), "unseen": unseen},
        "shape": (32, 96, 96),
        "validation": {
            "blocks": group(range(300, 303)),
            "resin": group((310,), "resin"),
            "texture": group((320,), "pasted", "seen"),
        },
        "test": {
            "phantoms": group(range(400, 404)),
            "resin, tracheae": group(range(410, 413), "resin"),
            "bare resin": group(range(510, 513), "bare"),
            "seen texture": group(range(420, 422), "pasted", "seen"),
            "unseen texture": group(range(430, 432), "pasted", "unseen"),
            "phantoms, 40 nm": group(range(440, 442), voxel_nm=40.0),
            "phantoms, 160 nm": group(range(450, 452), voxel_nm=160.0),
            "unseen, 40 nm": group((460,), "pasted", "unseen", 40.0),
            "unseen, 160 nm": group((470,), "pasted", "unseen", 160.0),
            "inverted": group(range(480, 482), shift="inverted"),
            "gradient": group(range(490, 492), shift="gradient"),
            "fluorescence": group(range(500, 502), shift="fluorescence"),
        },
        # Titles, and their columns.
        "tables": (
            ("Voxels of 80 nm", ("phantoms", "seen texture", "unseen texture", "resin, tracheae", "bare resin")),
            ("Other voxel sizes", ("phantoms, 40 nm", "phantoms, 160 nm", "unseen, 40 nm", "unseen, 160 nm")),
            ("What no training volume had", ("inverted", "gradient", "fluorescence")),
        ),
        "pictured": ("phantoms", "unseen texture"),
    }
    if smoke:
        found |= {"textures": {}, "shape": (12, 32, 32), "pictured": ("phantoms",)}
        found["validation"] = {"blocks": group((300,)), "resin": group((310,), "resin")}
        found["test"] = {
            name: found["test"][name] | {"seeds": (400 + i,)} for i, name in enumerate(("phantoms", "bare resin"))
        }
        found["tables"] = (("Voxels of 80 nm", ("phantoms", "bare resin")),)
        found["texture"].pop("texture, other sizes")
        found["features"] = {"local entropy": ("entropy", SMOOTHED[:1])}
    return found
