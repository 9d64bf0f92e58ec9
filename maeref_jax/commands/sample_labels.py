"""Clicks drawn from a label volume whose truth is known, to try how few labels would do.

  two voxels of every class in every fifth slice:
    maeref sample-labels --labels truth.tif --output clicks.csv --per_class 2 --slices 0:100:5 --seed 0
  five voxels in ten thousand, of every class as many:
    maeref sample-labels --labels truth.tif --output clicks.csv --share 0.0005

OUTPUT is a CSV file, z,y,x,class; or a label volume that is 255 where nothing was said, such as clicks.tif. Either is
what maeref train --labels takes. Unknown voxels are never drawn; the same seed draws the same ones. docs/clicks.md.
"""

from pathlib import Path

import numpy as np

from maeref_jax.commands import command_line
from maeref_jax.errors import MARK, BadInput, tell


def main(argv):
    arguments = command_line.parse_flags(flags(), argv)
    check(arguments)
    # Imported late: mistakes in the command are answered without waiting for the libraries.
    from maeref_jax.report.table import Table, text_table
    from maeref_jax.samples import drawn_labels, labelled_slices, training_volumes
    from maeref_jax.volumes import clicks

    labels, scheme = truth(arguments)
    names = [name or f"{i}" for i, name in enumerate(scheme["names"])]
    typed = tuple(arguments.slices.split(",")) if arguments.slices else (":",)
    slices = labelled_slices.numbers_of(typed, labels.shape[0], labels.path, "--slices")
    draw, number = drawn_labels.per_class, arguments.per_class
    if arguments.share is not None:
        draw, number = drawn_labels.share, arguments.share
    found = draw(labels, len(names), slices, arguments.seed, number, arguments.inside_vx)
    output = Path(arguments.output)
    if clicks.is_clicks(output):
        clicks.write_clicks(output, found.places, [names[one] for one in found.classes])
    else:
        write_labels(output, labels, found)
    drawn = np.bincount(found.classes, minlength=len(names)).tolist()
    rows = [
        (name, f"{drawn[i]:,}", f"{found.counts[:, i].sum():,}", some(found.few(slices, i)))
        for i, name in enumerate(names)
    ]
    columns = ("class", "drawn", "of so many", "fewer than asked for in slices")
    print(text_table(Table(f"{labels.path}, {len(slices)} slices, seed {arguments.seed}", columns, tuple(rows))))
    if lacking := [name for name, count in zip(names, drawn, strict=True) if not count]:
        tell(f"{MARK}nothing was drawn of {', '.join(lacking)}: networks cannot learn it from {output}")
    everything = labels.shape[0] * labels.shape[1] * labels.shape[2]
    known = {"voxels": len(found.places), "of": everything, "share": len(found.places) / everything}
    print(f"{output}: {training_volumes.labelled_text({**known, 'classes': dict(zip(names, drawn, strict=True))})}")


def flags():
    """What --help shows, and what is typed."""
    found = command_line.parser(__doc__)
    add = found.add_argument
    add("--labels", required=True, metavar="PATH", help="the label volume whose truth is known")
    add("--output", required=True, metavar="PATH", help="clicks.csv, or a label volume like clicks.tif; a new file")
    add("--per_class", type=int, metavar="K", help="draw so many voxels of every class in every slice")
    add("--share", type=float, metavar="S", help="draw this share of all voxels of the slices, of every class as many")
    add("--seed", type=int, default=0, metavar="N", help="another seed draws other voxels (default 0)")
    add("--slices", metavar="A:B:STEP,…", help="numbers and ranges of slices, 0:100:5; without it all of them")
    add("--inside_vx", type=int, default=0, metavar="N", help="no voxel nearer to another class than N, in its slice")
    add("--classes", metavar="NAMES", help="names, background first; without it ids are taken as they are")
    add("--label_map", metavar="ID:CLASS,…", help="what ids in the label file mean: 0:0,255:1; or instances")
    command_line.add_reading_flags(found, refused=("at_voxel_size_nm",))
    return found


def check(arguments):
    """Raises BadInput for flags that contradict each other, and an output that would be replaced."""
    if (arguments.per_class is None) == (arguments.share is None):
        both = "both" if arguments.share is not None else "neither"
        raise BadInput(f"expected one of --per_class K and --share S, found {both}")
    for name, least in (("per_class", 1), ("inside_vx", 0), ("seed", 0)):
        if (found := getattr(arguments, name)) is not None and found < least:
            raise BadInput(f"--{name} must be at least {least}, found {found}")
    if arguments.share is not None and not 0 < arguments.share <= 1:
        raise BadInput(f"--share must be above 0 and at most 1 (all voxels), found {arguments.share:g}")
    if arguments.at_voxel_size_nm:
        raise BadInput(
            "clicks are voxels of the file; leave --at_voxel_size_nm out here: maeref train --at_voxel_size_nm finds "
            "their places on its grid"
        )
    from maeref_jax.volumes.view import range_text
    from maeref_jax.volumes.volume import split_range

    base, z_range = split_range(arguments.labels)
    if z_range is not None:
        raise BadInput(
            f"clicks are voxels of the file, and {arguments.labels} is a range of its slices; give --labels {base} "
            f"--slices {range_text(z_range)[1:-1]}"
        )
    output = Path(arguments.output)
    if output.exists():
        raise BadInput(f"{output} is there already, and may be somebody's clicks; take another --output, or remove it")
    if not output.absolute().parent.is_dir():
        raise BadInput(f"there is no folder {output.absolute().parent} to write {output.name} to; make it first")


def truth(arguments):
    """The label volume as classes, and their scheme."""
    from maeref_jax.volumes import label_ids
    from maeref_jax.volumes.class_scheme import scheme_of_names

    labels = given(arguments).open(arguments.labels, "labels")
    label_map = tuple(arguments.label_map.split(",")) if arguments.label_map else ()
    if arguments.classes:
        scheme = scheme_of_names(arguments.classes.split(","))
    elif label_map:
        raise BadInput("--label_map says which class an id is, so the classes have to be named, too: --classes")
    else:
        scheme, label_map = {"names": ("",) * (highest_id(labels) + 1), "ambiguous": -1}, label_ids.IDENTITY
    found = label_ids.understand(labels, scheme, label_map)
    for line in found.lines:
        tell(line)
    return label_ids.as_classes(labels, found), scheme


def given(arguments):
    """What the flags say of the file: a Given."""
    from maeref_jax.volumes.dataset import given_of
    from maeref_jax.volumes.voxel_size import checked_size

    said = {name: getattr(arguments, name) for name in command_line.READING if getattr(arguments, name) is not None}
    if "voxel_size_nm" in said:
        said["voxel_size_nm"] = checked_size(said["voxel_size_nm"], "--voxel_size_nm Z,Y,X")
    for name in {"unpacked_gb", "piece_gb"} & said.keys():
        try:
            said[name] = float(said[name])
        except ValueError:
            raise BadInput(f"--{name} must be a number, found '{said[name]}'") from None
    return given_of(said)


def highest_id(labels):
    """The highest id of a label volume whose ids are its classes. Raises BadInput for ids that are none."""
    from maeref_jax.volumes.class_scheme import MOST
    from maeref_jax.volumes.windows import blocks

    highest = 0
    for box in blocks(labels.shape, (8, 1024, 1024)):
        found = labels.read(box)
        highest = max(highest, int(found[found != MOST].max(initial=0)))
    if not highest:
        raise BadInput(
            f"{labels.path} holds no class but 0, {MOST} is unknown; say what they mean: --classes "
            "background,mitochondria, and --label_map 0:0,255:1 where 255 is the second"
        )
    if highest > MOST:
        raise BadInput(
            f"{labels.path} holds ids up to {highest:,}, expected classes, 0 to {MOST - 1}, and {MOST} for unknown; "
            "say what they mean: --classes background,mitochondria --label_map instances"
        )
    return highest


def write_labels(output, labels, found):
    """The voxels that were drawn as a label volume, uint8, 255 where nothing was."""
    from maeref_jax.volumes.view import array_volume
    from maeref_jax.volumes.writing import UNKNOWN_ON_DISK, write_volume

    drawn = np.full(labels.shape, UNKNOWN_ON_DISK, np.uint8)
    drawn[tuple(found.places.T)] = found.classes
    write_volume(output, array_volume(drawn, str(output), labels.voxel_size_nm), labels.voxel_size_nm)


def some(numbers):
    """The first of many numbers, and how many there are."""
    shown = ", ".join(map(str, numbers[:5]))
    return f"{shown}, … ({len(numbers):,})" if len(numbers) > 5 else shown
