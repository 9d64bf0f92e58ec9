"""Masks of the tissue in volumes of resin, made at coarse voxels: whatever is heavy need not look at resin then.

  of an image, by its texture, without training:
    maeref tissue --input image.ome.zarr --output masks
    maeref tissue --input 'stacks/*.tif' --output masks --at_voxel_size_nm 80,80,80
  of an image, by a network that was trained to (docs/tissue.md):
    maeref tissue --input image.ome.zarr --model runs/tissue --output masks
  a mask of your own, painted or made by another program, cleaned up:
    maeref tissue --mask painted.tif --output masks --open_nm 500 --keep largest

The mask is STEM_tissue.ome.zarr, 1 tissue and 0 resin; STEM_tissue.json says how it was made and how much is tissue;
tissue.html shows its outline. Look at it: what a mask leaves out is lost to all that keeps to it. docs/tissue.md says
more. The same command again continues an interrupted run and leaves a completed one alone. Exit codes: 0 done, 1 some
inputs failed, 2 bad usage or bad input, or a warning with --strict, 130 and 143 interrupted.
"""

from pathlib import Path

from maeref_jax.commands import command_line, opening, requests
from maeref_jax.errors import BadInput, tell
from maeref_jax.results.output import check_stem
from maeref_jax.volumes.dataset import Given, given_of
from maeref_jax.volumes.view import Volume
from maeref_jax.volumes.voxel_size import checked_size, size_text

CLEANING = ("close_nm", "fill_holes", "open_nm", "keep", "smallest_vx", "grow_nm")


def main(argv: list[str]) -> int:
    config = read_config(argv)
    paths = requests.requests_of(config.input, config.mask, "", "", ())
    several, failed = len(paths) > 1, {}
    for request in paths:
        with opening.one_of_several(request.stem, failed, several):
            check_stem(request.stem)
            given = given_of(config)
            role = "image" if "image" in request.paths else "mask"
            volume = given._replace(at_voxel_size_nm=None).open(
                request.paths.get("image") or request.paths["labels"], role
            )
            make_mask(volume, request.stem, config, given, mask=role == "mask")
    from maeref_jax.report import tissue as pictures

    if len(failed) < len(paths) and (path := pictures.write_page(Path(config.output))):
        print(f"outlines to look at: {path}")
    return 1 if failed else 0


def read_config(argv: list[str]):
    """The config with overrides and flags applied. Raises BadInput where they are incomplete or contradict."""
    flags = command_line.parser(__doc__)
    add = flags.add_argument
    add("--input", nargs="+", metavar="PATH", help="images: files, folders (also of many), URLs, globs")
    add("--mask", metavar="PATH", help="instead: a mask of your own to be cleaned up, 0 is resin; also a glob")
    add("--output", metavar="DIR", help="where the masks go")
    add("--model", metavar="texture|DIR", help="what tells tissue from resin: its texture, or a trained workdir")
    add("--close_nm", metavar="NM", help="close gaps up to twice that wide (default: 3 voxels of the plane)")
    add("--fill_holes", choices=("none", "2d", "3d"), help="what is enclosed: in a slice (default), or cavities")
    add("--open_nm", metavar="NM", help="remove what is less than twice that wide (default: 3 voxels of the plane)")
    add("--keep", metavar="all|largest|N", help="which pieces (default: all)")
    add("--smallest_vx", metavar="N", help="voxels that a piece has at least (default: 250)")
    add("--grow_nm", metavar="NM", help="grow by that in the end, or shrink (default: 3 voxels of the plane)")
    command_line.add_reading_flags(flags)
    add("--strict", action="store_true", default=None, help="stop where there is a warning, exit code 2")
    add("--overwrite", action="store_true", default=None, help="remove an earlier mask first")
    add("--config", default="tissue_mask", metavar="NAME|FILE[:MODE]", help="see configs/tissue_mask.py")
    arguments, overrides = command_line.parse(flags, argv)
    given = {name: value for name, value in vars(arguments).items() if name != "config" and value is not None}
    many = tuple(given.pop("input", ()))
    overrides += [f"--config.{name}={value}" for name, value in given.items()]
    config = command_line.load_config(arguments.config, overrides)
    config.input = many or config.input
    config.typed = ("maeref", "tissue", *argv)
    if not config.output:
        raise BadInput("--output is missing (--help shows examples)")
    if bool(config.input) == bool(config.mask):
        found = "both" if config.mask else "none of them"
        raise BadInput(f"expected one of --input, images, and --mask, a mask to be cleaned up; found {found}")
    if config.mask and arguments.model:
        raise BadInput("--model makes a mask of an image; a --mask is only cleaned up, leave one of them out")
    for name in command_line.SIZES:
        if config[name]:
            checked_size(config[name], f"--{name} Z,Y,X")
    known = command_line.is_workdir(config.model) or command_line.is_packaged(config.model)
    if not known and not config.mask:
        raise BadInput(f"--model {config.model} is not the workdir of a maeref train run: it has no config.json")
    return config


def mask_for(
    image: Volume,
    directory: str | Path,
    stem: str,
    say=tell,
    typed: tuple[str, ...] = (),
    overwrite: bool = False,
) -> Volume:
    """A mask of the tissue in an image, by texture and with the usual clean-up, made in a folder as {stem}_tissue.*, or
    the one that is there already: 1 tissue, 0 resin, at coarse voxels of the same extent.

    image: at its own voxel size, which has to be known. say: hears what a user should know; typed: the command;
        overwrite: remove an earlier one first.

    Raises:
        BadInput: no voxel size, an image that cannot be used, or another mask is there.
    """
    config = command_line.load_config("tissue_mask")
    config.update({"output": str(directory), "typed": typed, "overwrite": overwrite})
    return make_mask(image, stem, config, Given(), say)


def make_mask(volume: Volume, stem: str, config, given: Given, say=tell, mask: bool = False) -> Volume:
    """The mask of one volume, opened. volume: as it is stored; config: of configs/tissue_mask.py; mask: it is one."""
    from maeref_jax.pipeline import tissue
    from maeref_jax.volumes.volume import open_volume

    segmenter, texture, doubts, notes, image = None, None, (), (), None
    if mask:
        source, doubts, notes = _understood(volume, given.at_voxel_size_nm)
    else:
        segmenter = _model(config.model)
        source = image = _at_coarse_voxels(volume, segmenter, given, say)
        texture = None if segmenter.apply.statistics else _model("texture")
    cleaning = tissue.usual({name: config[name] for name in CLEANING}, source.voxel_size_nm)
    lengths = ", ".join(f"{name} {length:g}" for name, length in cleaning.lengths.items())
    say(f"{stem}: clean-up with {lengths}, fill_holes {cleaning.fill_holes}, smallest_vx {cleaning.smallest_vx}")
    how = {"batch": config.batch, "overwrite": config.overwrite, "strict": config.strict, "typed": config.typed}
    how |= {"texture": texture, "doubts": doubts, "notes": notes}
    asked = tissue.Asked(stem, Path(config.output), source, segmenter, cleaning, **how)
    summary = tissue.make(asked, say)
    found = open_volume(asked.place.folder)
    write_picture(asked.place, found, image)
    say(f"{stem}: {summary['tissue_share']:.2%} is tissue; see {asked.place.folder}")
    return found


def write_picture(place, mask: Volume, image: Volume | None) -> None:
    """The outline of a mask, beside it, unless it is there."""
    from maeref_jax.report.tissue import outline_picture
    from maeref_jax.results import ownership

    path = place.directory / f"{place.stem}.png"
    if not path.exists():
        with ownership.written(place, path) as whole:
            whole.write_bytes(outline_picture(mask, image))


def _model(named: str):
    from maeref_jax.commands.load_models import by_name
    from maeref_jax.pipeline import methods
    from maeref_jax.volumes import progress

    if not command_line.is_workdir(named):
        return by_name(named, kind="segmenter")
    with progress.showing(f"loading {named}"):
        return methods.load_model(named, "segmenter")


def _at_coarse_voxels(image: Volume, segmenter, given: Given, say) -> Volume:
    """The image at the voxel size that is asked for, or else the model's own, or one at which it is small."""
    from maeref_jax.pipeline import tissue
    from maeref_jax.volumes.resolution import at_voxel_size

    if image.voxel_size_nm is None:
        raise BadInput(f"{image.path} does not say how large a voxel is; give --voxel_size_nm Z,Y,X")
    trained = tuple(segmenter.settings["voxel_size_nm"])
    wanted = given.at_voxel_size_nm or trained or tissue.coarse_size(image.shape, image.voxel_size_nm)
    found = at_voxel_size(image, wanted, "mean")
    chosen = "" if given.at_voxel_size_nm else f", as {segmenter.workdir} was trained" if trained else ", chosen here"
    say(
        f"{image.path}: looked at in {' x '.join(map(str, found.shape))} voxels of {size_text(found.voxel_size_nm)} nm "
        f"(z y x){chosen}; --at_voxel_size_nm Z,Y,X sets another size"
    )
    return found


def _understood(mask: Volume, wanted: tuple | None) -> tuple[Volume, tuple, tuple]:
    """A mask as 0 and 1 on the grid that is asked for, its border smooth where that is finer; doubts and notes."""
    from maeref_jax.pipeline import cleaning
    from maeref_jax.volumes import label_ids
    from maeref_jax.volumes.resolution import at_voxel_size

    reading = label_ids.understand_mask(mask, ("resin", "tissue"))
    classes = label_ids.as_classes(mask, reading)
    if wanted is None:
        return classes, reading.doubts, reading.notes
    if mask.voxel_size_nm is None or all(a >= b for a, b in zip(wanted, mask.voxel_size_nm, strict=True)):
        return at_voxel_size(classes, wanted, "mode"), reading.doubts, reading.notes
    return (
        cleaning.finer(classes, at_voxel_size(classes, wanted, "nearest").shape, wanted),
        reading.doubts,
        reading.notes,
    )
