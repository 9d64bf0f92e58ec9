"""Opens a refined volume in napari with its colours: python docs/open_in_napari.py refined/cell.ome.zarr [image]

Needs napari, zarr >= 3 and tifffile (pip install "napari[all]" zarr tifffile), not maeref_jax. Arrays are read when
they are looked at. The image is the copy in the OME-Zarr, or the TIFF or Zarr array given as second argument.
"""

import sys

import dask.array
import napari
import tifffile
import zarr
from napari.utils.colormaps import DirectLabelColormap

SHOWN = ("refined",)  # the others are there, switched off
GREY = {"entropy": "inferno", "confidence": "viridis"}


def described(group):
    """(levels, the finest first; scale; OME metadata) of an image or labels."""
    ome = dict(group.attrs).get("ome", dict(group.attrs))
    datasets = ome["multiscales"][0]["datasets"]
    levels = [dask.array.from_zarr(group[entry["path"]]) for entry in datasets]
    return levels, datasets[0]["coordinateTransformations"][0]["scale"], ome


def colours(ome):
    """The label colours that were written; None, napari's own, where there are none (numbered objects)."""
    found = ome["image-label"].get("colors", [])
    if not found:
        return None
    table = {entry["label-value"]: [part / 255 for part in entry["rgba"]] for entry in found}
    return DirectLabelColormap(color_dict={None: [0.4, 0.15, 0.4, 1]} | table)  # None: unknown


def open_all(viewer, path, image=None):
    """Adds everything that is in the OME-Zarr at `path` to the viewer, as layers in nm."""
    root = zarr.open_group(path, mode="r")
    scale = described(root["labels/initial"])[1]
    if image is None and dict(root.attrs).get("maeref_jax", {}).get("image", {}).get("copied"):
        viewer.add_image(described(root)[0], name="image", scale=scale)
    elif image is not None:
        stored = zarr.open(
            tifffile.imread(image, aszarr=True) if image.endswith((".tif", ".tiff")) else image, mode="r"
        )
        viewer.add_image(dask.array.from_zarr(stored), name="image", scale=scale)
    for name, colormap in GREY.items():
        if name in root:
            limits = (0, 255)
            viewer.add_image(
                described(root[name])[0],
                name=name,
                scale=scale,
                colormap=colormap,
                contrast_limits=limits,
                visible=False,
            )
    ome = dict(root["labels"].attrs)
    for name in ome.get("ome", ome)["labels"]:
        levels, _, label = described(root["labels"][name])
        chosen = {"colormap": colours(label)} if colours(label) else {}
        viewer.add_labels(levels, name=name, scale=scale, opacity=0.5, visible=name in SHOWN, **chosen)


if __name__ == "__main__":
    open_all(napari.Viewer(), *sys.argv[1:])
    napari.run()
