"""Files of microscopes through bioio, an optional extra with a reader for each: CZI, LIF and ND2."""

from pathlib import Path

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.stored import Stored, extra
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust

READERS = {".czi": "bioio-czi", ".lif": "bioio-lif", ".nd2": "bioio-nd2"}
_AXES = "TCZYX"


def open_microscope(path: Path, trust: Trust = CAUTIOUS) -> Stored:
    """The one scene of the file as t c z y x, read by the chunks of its reader.

    Voxel size: bioio's physical pixel sizes, which are in µm. trust: nothing of it can be asked of these readers.

    Raises:
        BadInput: bioio or the reader is missing; a file that the reader does not understand; several scenes.
    """
    reader = READERS[path.suffix.lower()]
    names = f"bioio {reader}"
    bioio = extra("bioio", path, names)
    extra(reader.replace("-", "_"), path, names)
    unknown = extra("bioio_base.exceptions", path, names).UnsupportedFileFormatError
    try:
        image = bioio.BioImage(path)
        scenes = list(image.scenes)
        data = image.get_image_dask_data(_AXES)
    except (unknown, OSError, *said.MALFORMED) as error:
        raise BadInput(f"{path} cannot be read by {reader}, is it truncated or damaged? {error}") from error
    if len(scenes) != 1:
        raise BadInput(
            f"{path} holds {len(scenes)} scenes ({', '.join(map(str, scenes[:4]))}, ...), expected one; export one "
            "with the microscope's program or with Fiji"
        )
    size, doubt = said.voxel_size({axis: (length, "um") for axis, length in _sizes(image).items()}, 6)

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        try:
            return np.asarray(data[slices].compute())
        except (unknown, OSError, *said.MALFORMED) as error:
            raise BadInput(f"{path} cannot be read, is it damaged? {error}") from error

    shape, dtype = tuple(map(int, data.shape)), np.dtype(data.dtype).newbyteorder("=")
    return Stored(path, shape, dtype, _AXES, "t,c,z,y,x", size, read, _channels(image), size_doubt=doubt)


def _sizes(image) -> dict[str, float]:
    try:
        found = image.physical_pixel_sizes
        return {axis: getattr(found, axis.upper()) for axis in "zyx" if getattr(found, axis.upper()) is not None}
    except said.MALFORMED:
        return {}


def _channels(image) -> tuple[str, ...]:
    try:
        return tuple(said.text(name) for name in image.channel_names or ())
    except said.MALFORMED:
        return ()
