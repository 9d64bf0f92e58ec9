"""How `maeref tissue` makes a mask of the tissue in a volume; every flag of it is shorthand for a field here.

    maeref tissue --input image.ome.zarr --output masks
    maeref tissue --mask painted.tif --output masks --keep largest

Lengths are in nm; none: three voxels of the plane, at the size that is worked at. Modes: "" and "smoke", the same with
small calls of a network.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.defaults import trust

MODES = ("", "smoke")


def get_config(mode=""):
    return ConfigDict(
        {
            "input": (),  # images: paths, globs, folders
            "mask": "",  # instead of images: a mask to be cleaned up, 0 is resin
            "output": "",
            "model": "texture",  # or texture:MODE, or a workdir that tells tissue from the class that comes first
            "axes": "",  # as stored, e.g. "ZYX", for files that do not say
            "voxel_size_nm": (),  # (z, y, x), for files that do not say
            # (z, y, x) at which the volume is looked at, and that the mask has; (): for texture about 512 voxels across
            # the plane, for a workdir that of its training, for a mask its own.
            "at_voxel_size_nm": (),
            "channel": placeholder(str),  # of the image: index from 0, or name
            **trust(),
            # What is done to what was found, in this order (masking/cleaning.py).
            "close_nm": placeholder(float),  # gaps up to twice that wide are closed
            "fill_holes": "2d",  # what is enclosed in a slice; 3d: cavities of the volume; none
            "open_nm": placeholder(float),  # what is less than twice that wide goes
            "keep": "all",  # pieces; largest, or how many of the largest
            "smallest_vx": 250,  # voxels that a piece has at least
            "grow_nm": placeholder(float),  # by how much the mask grows in the end; below 0 it shrinks
            "batch": 2 if mode == "smoke" else 16,  # windows per call of a network
            "overwrite": False,
            "strict": False,  # a warning stops: exit code 2
            "typed": (),  # the command, word by word; it sets this itself
        }
    )
