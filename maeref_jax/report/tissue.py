"""Pictures of a tissue mask: its outline over coarse slices in three directions; the page of all masks of a folder."""

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from maeref_jax.report.canvas import Key, Panel, compose, enlarged, grey_image, outlined
from maeref_jax.report.page import Picture, html_page
from maeref_jax.report.table import Table
from maeref_jax.results import ownership
from maeref_jax.results.files import write_text
from maeref_jax.results.maps import HIDDEN_COLOUR
from maeref_jax.results.place import Output
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.windows import Box

GENERATOR = "maeref_jax tissue"
SLICES = 3  # of every direction, evenly spread
_AXES = ("z", "y", "x")
_ROOM = 520  # pixels of the longer side of a picture, at most


def outline_picture(mask: Volume, image: Volume | None = None) -> bytes:
    """PNG bytes: SLICES slices across z, y and x, the mask (0 is resin) outlined; over the image, of the same grid,
    where there is one, else over the mask itself. Voxels are drawn in their proportions, to a whole number.
    """
    rows, like = [], None
    for axis in range(3):
        slices = [mask.shape[axis] * (2 * number + 1) // (2 * SLICES) for number in range(SLICES)]
        row = []
        for at in dict.fromkeys(slices):
            box = _slice(mask.shape, axis, at)
            shown = None if image is None else image.read(box).squeeze(axis).astype(np.float32)
            like = shown if like is None else like  # one contrast for all
            row.append(_panel(mask, box, axis, shown, like, bool(row)))
        rows.append(row)
    return compose(rows, [Key("outline of the tissue mask", HIDDEN_COLOUR, "line")])


def _slice(shape, axis, at) -> Box:
    start, stop = [0, 0, 0], list(shape)
    start[axis], stop[axis] = at, at + 1
    return Box(tuple(start), tuple(stop))


def _panel(mask, box, axis, shown, like, without_bar) -> Panel:
    inside = mask.read(box).squeeze(axis) != 0
    name = f"{_AXES[axis]} = {box.start[axis]}: {inside.mean():.0%} tissue"
    size = np.delete(mask.voxel_size_nm or (1.0, 1.0, 1.0), axis)
    grey = np.uint8(60 + 120 * inside)[..., None].repeat(3, -1) if shown is None else grey_image(shown, like)
    # What is longer is repeated; then all is thinned out or enlarged to what is easily seen.
    repeats = np.maximum(np.rint(size / size.min()).astype(int), 1)
    inside, grey = (array.repeat(repeats[0], 0).repeat(repeats[1], 1) for array in (inside, grey))
    step, by = -(-max(inside.shape) // _ROOM), max(1, _ROOM // max(inside.shape))
    inside, grey = inside[::step, ::step], grey[::step, ::step]
    picture = outlined(enlarged(grey, by), inside, by, HIDDEN_COLOUR)
    bar = None if without_bar or not mask.voxel_size_nm else size.min() * step / by
    return Panel(name, picture, by, "", bar)


def write_page(directory: Path) -> Path | None:
    """Writes tissue.html, of all masks in a folder that maeref tissue made, with their pictures. None, and a warning,
    where another program's page is there; None where there is no mask.
    """
    path, found = Path(directory) / "tissue.html", summaries(directory)
    if path.exists() and GENERATOR not in path.read_text(encoding="utf-8", errors="replace")[:1000]:
        print(f"warning: {path} was not made by maeref tissue and is left as it is; no page", file=sys.stderr)
        return None
    if not found:
        return None
    write_text(path, page(Path(directory), found))
    return path


def summaries(directory: Path) -> dict[str, dict]:
    """The summaries of all masks that are complete, by stem."""
    stems = sorted(file.stem for file in Path(directory).glob("*_tissue.json"))
    found = {stem: ownership.summary_of(Output(Path(directory), stem)) for stem in stems}
    return {stem: summary for stem, summary in found.items() if summary and "tissue_share" in summary}


def page(directory: Path, found: Mapping[str, dict]) -> str:
    """The HTML document. found: of `summaries`, at least one."""
    voxels = sum(one["voxels"] for one in found.values())
    tissue = sum(one["voxels"] * one["tissue_share"] for one in found.values())
    pictures = []
    for stem, summary in found.items():
        png = directory / f"{stem}.png"
        if png.exists():
            caption = f"{summary['tissue_share']:.1%} of {stem.removesuffix('_tissue')} is tissue."
            pictures += [stem.removesuffix("_tissue"), Picture(png.read_bytes(), caption)]
    columns = ("", "voxels (z y x)", "voxel, nm", "tissue", "before clean-up", "made by")
    rows = [
        (
            stem.removesuffix("_tissue"),
            " × ".join(map(str, one["shape"])),
            " × ".join(f"{length:g}" for length in one["voxel_size_nm"]) if one["voxel_size_nm"] else "unknown",
            f"{one['tissue_share']:.2%}",
            f"{one['found_share']:.2%}",
            one["workdirs"]["segmenter"] or "a given mask",
        )
        for stem, one in found.items()
    ]
    lead = [
        f"{len(found)} volume{'s' * (len(found) != 1)}: {tissue / voxels:.1%} is tissue. What is resin can be left out "
        "of everything that follows.",
        "Look at the outlines: tissue outside of them is lost to whatever keeps to the mask.",
    ]
    return html_page(
        title="Tissue",
        warnings=list(dict.fromkeys(text for one in found.values() for text in one["warnings"])),
        lead=lead,
        pictures=pictures,
        tables=[Table("Masks", columns, tuple(rows))],
        classes={"names": [], "colours": []},
        facts={
            stem.removesuffix("_tissue"): {f"clean-up: {name}": value for name, value in one["cleaning"].items()}
            | one["versions"]
            for stem, one in found.items()
        },
        generator=GENERATOR,
        outline="outline of the tissue mask",
    )
