"""Morphology along z, which learns nothing: slices that were dropped, speckled or holed are repaired by those above and
below, and by labelled slices (docs/refiners.md). From arXiv 2206.02392, ISBI 2022.

    python refine.py --labels masks.tif --refiner continuity --output refined
    python refine.py --labels masks.tif --refiner continuity --output refined --config.labelled_slices=0:160:5

On anybody's masks, on anything, seconds for 165 slices of 384 x 512 pixels. A workdir, for other settings:

    python train.py --config configs/continuity.py --workdir runs/continuity --classes background,cell

One mode.
"""

from ml_collections import ConfigDict

MODES = ("",)
# Areas, lengths, and nm in the plane for every nm along z (masking/continuity.py); as published, of pixels of 5 nm.
MORPHOLOGY = {
    "smallest_nm2": 7500.0,  # smaller objects are removed from every slice
    "carried_nm2": 11250.0,  # the same of what a labelled slice is carried as
    "shrink": 3.0,  # so much smaller that becomes
    "reach_nm": 50.0,  # so far a labelled slice speaks
    "distances": (1, 2),  # in slices, of the neighbours that vote
    "order": "free",  # or original
}


def get_config(mode):
    return ConfigDict(
        {
            "method": "continuity",
            "morphology": MORPHOLOGY,
            "use": {"everywhere": True},  # as published; or at hidden tokens alone
            "token": 4,
            "window": (4, 4),  # of the tokens: it works on whole slices
            "stride": (4, 4),
            "threshold": 0.4,  # tokens above this mean entropy are hidden
            "ambiguous_threshold": 0.5,  # so are tokens of higher mean probability of "ambiguous"
            "classes": {
                "names": ("background", "foreground"),
                "colours": ((0, 0, 0), (250, 220, 60)),
                "ambiguous": -1,
            },
            "voxel_size_nm": (),  # any: lengths follow the volume's own
        }
    )
