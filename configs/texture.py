"""Tissue and resin told apart by texture, which learns nothing (docs/tissue.md).

    python refine.py --input image.tif --ensemble texture --refiner none --output tissue

Seconds for some million voxels. Three votes, each by Otsu's threshold: how much grey values differ in a square, whether
gradients point one way, and edges. Published for a larval brain of Drosophila in pixels, of a window of 64, and
standard deviations of 1 and 0.5; here lengths, of voxels that are assumed to be 256 nm long in the plane: 8 nm, halved
in number five times. In small volumes they shrink (segmenters/texture.py). Modes, to look at: `:differences` (of
Gaussians) and `:entropy`, one vote each; `:smoke` is that of "".
"""

from ml_collections import ConfigDict

MODES = ("", "differences", "entropy", "smoke")
VOXEL_NM = 256.0  # assumed: it is not published
VOTES, BALLOTS = ("deviation", "coherence", "edges"), (4, 3, 3)  # of ten: weights of .4, .3 and .3


def get_config(mode):
    votes, ballots = ((mode,), (1,)) if mode in ("differences", "entropy") else (VOTES, BALLOTS)
    return ConfigDict(
        {
            "method": "texture",
            "votes": votes,
            "ballots": ballots,  # of each vote, so many members as the pipeline counts them
            "members": sum(ballots),
            "window": (64, 64),  # of nothing: it works on blocks of any size
            "stride": (64, 64),
            "lengths": {"window_nm": 64 * VOXEL_NM, "texture_nm": VOXEL_NM, "edge_nm": VOXEL_NM / 2},
            "classes": {
                "names": ("resin", "tissue"),
                "colours": ((0, 0, 0), (250, 220, 60)),
                "ambiguous": -1,
            },
            "voxel_size_nm": (),  # any: lengths follow the volume's own
        }
    )
