"""PNG planes through Pillow, which matplotlib and scikit-image bring: grey values, palettes and colours as stored."""

from pathlib import Path

import numpy as np
from PIL import Image

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats import said
from maeref_jax.volumes.formats.stored import Stored
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust, check_piece, check_possible

# Planes of microscopes are larger than what Pillow takes for an attack.
Image.MAX_IMAGE_PIXELS = None
_DTYPES = {"1": "bool", "L": "uint8", "P": "uint8", "LA": "uint8", "RGB": "uint8", "RGBA": "uint8"}
_DTYPES |= {"I;16": "uint16", "I;16B": "uint16", "I": "int32"}
# Of a pixel, at most: four samples, or a number of 32 bits.
_MEMORY = 4
_DAMAGE = (OSError, SyntaxError, EOFError, *said.MALFORMED)


def open_png(path: Path, trust: Trust = CAUTIOUS, *, decode: bool = True) -> Stored:
    """A plane (y, x), or (y, x, colour samples). Its voxel size is not in the file.

    Args:
        decode: try to decode it, so that damage shows before any work.

    Raises:
        BadInput: no PNG, truncated, larger than what is in the file or than may be unpacked at once, or 16-bit
            colours, which Pillow would round to 8 bits.
    """
    try:
        with path.open("rb") as file:
            depth, colours = file.read(26)[24:]
        with Image.open(path, formats=("PNG",)) as image:
            mode, (width, height), samples = image.mode, image.size, len(image.getbands())
            held = path.stat().st_size
            check_possible(path, height * (width * samples * (1 if mode == "P" else depth) // 8), held)
            check_piece(path, "its planes", height * width * _MEMORY, held, trust)
            image.load() if decode else None
    except BadInput:  # a ValueError as well, but no damage
        raise
    except _DAMAGE as error:
        raise BadInput(f"{path} is no readable PNG, empty or truncated: {error}") from error
    if mode not in _DTYPES or (depth == 16 and colours in (2, 4, 6)):
        raise BadInput(f"{path} has colours of {depth} bits (mode {mode}), which are not read; save it as TIFF")
    # Grey values of 2 and 4 bits come spread over 0 to 255: they are brought back.
    spread = 255 // (2**depth - 1) if colours == 0 and depth in (2, 4) else 1
    dtype = np.dtype(np.uint16 if mode == "I" else _DTYPES[mode])

    def read(slices: tuple[slice, ...]) -> np.ndarray:
        try:
            with Image.open(path, formats=("PNG",)) as image:
                plane = np.asarray(image)
        except _DAMAGE as error:
            raise BadInput(f"{path} cannot be decoded, is it damaged? {error}") from error
        return (plane[slices] // spread if spread > 1 else plane[slices]).astype(dtype)

    axes, shape = ("YX", (height, width)) if samples == 1 else ("YXS", (height, width, samples))
    note = "its numbers are those of its palette, no grey values" if mode == "P" else ""
    return Stored(path, shape, dtype, axes, axes, None, read, note=note)
