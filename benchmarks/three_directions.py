"""A picture of a held-out volume in three directions, one a column: the image, its segmentation, what entropy hides and
what a corrector hides, each filled in by the masked autoencoder and by the corrector, and the truth.

    python benchmarks/three_directions.py --entropy runs/corrector_entropy --error runs/corrector_error --volume NI_m5
        [--rendered runs/rendered/test] [--filler mae] --output three_directions.png

Both folders are of evaluate.py on that volume, the second with --config.hide_by=error: the corrector is the refiner,
--filler one of the competitors. The planes meet in the voxel around which the second repairs most. Pictures of public
data are not to be redistributed.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

sys.path.insert(0, str(Path(__file__).parent.parent))

from configs.defaults import CLASSES
from maeref_jax.pipeline.refining import open_result
from maeref_jax.report.canvas import Panel, class_keys, colour_labels, compose, enlarged, grey_image, outlined
from maeref_jax.volumes.volume import labels_from_disk, open_volume
from maeref_jax.volumes.windows import whole

SIDE, BY = 104, 2  # voxels of the plane that are shown, and pixels a voxel
AROUND = (3, 12, 12)  # voxels in which repairs are counted
DIRECTIONS = ("from above", "from the front", "from the side")


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("entropy", "error", "output"):
        flags.add_argument(f"--{name}", type=Path, required=True)
    flags.add_argument("--volume", required=True)
    flags.add_argument("--rendered", type=Path, default=Path("runs/rendered/test"))
    flags.add_argument("--filler", default="mae")
    given = flags.parse_args()
    image, truth = (read(open_volume(given.rendered / f"{given.volume}_{role}.tif")) for role in ("image", "truth"))
    z, y, _ = open_volume(given.rendered / f"{given.volume}_image.tif").voxel_size_nm
    colours, names = CLASSES["colours"][:4], CLASSES["names"][:4]

    def maps(folder, role, filler=""):
        return read(open_result(folder / "held_out" / filler, f"{given.volume}_truth", role))

    initial, refined = (labels_from_disk(maps(given.error, role)) for role in ("initial", "refined"))
    repaired = (initial != truth) & (refined == truth)
    at = np.unravel_index(ndimage.uniform_filter(repaired.astype(np.float32), AROUND).argmax(), truth.shape)
    planes = [plane_through(axis, at, truth.shape) for axis in range(3)]

    def row(title, pictures, hidden=None):
        """A Panel for each direction. pictures: uint8 (z, y, x, 3)."""
        panels = []
        for axis, (where, direction) in enumerate(zip(planes, DIRECTIONS, strict=True)):
            thick = 1 if axis == 0 else round(z / y)  # side views are as high as they are
            picture = enlarged(pictures[where].repeat(thick, 0), BY)
            if hidden is not None:
                outlined(picture, hidden[where].repeat(thick, 0) > 0, BY)
            panels.append(Panel(f"{title}, {direction}", picture, BY))
        return panels

    rows = [row("image", np.stack([grey_image(one, image) for one in image]))]
    rows.append(row("segmentation", colour_labels(initial, colours)))
    for way, folder in (("entropy", given.entropy), ("the corrector", given.error)):
        hidden = maps(folder, "hidden")
        rows.append(row(f"what {way} hides", colour_labels(initial, colours), hidden))
        for who, filler in ((given.filler, given.filler), ("the corrector", "")):
            filled = labels_from_disk(maps(folder, "refined", filler))
            rows.append(row(f"there filled in by {who}", colour_labels(filled, colours), hidden))
    rows.append(row("truth", colour_labels(truth.astype(np.int16), colours)))
    given.output.write_bytes(compose(rows, class_keys(names, colours)))
    print(given.output)


def read(volume):
    return volume.read(whole(volume.shape))


def plane_through(axis, at, shape):
    """The index of a plane across `axis` through a voxel, SIDE voxels wide where it is wider."""
    starts = [max(0, min(middle - SIDE // 2, size - SIDE)) for middle, size in zip(at, shape, strict=True)]
    return tuple(int(at[i]) if i == axis else slice(starts[i], starts[i] + SIDE) for i in range(3))


if __name__ == "__main__":
    main()
