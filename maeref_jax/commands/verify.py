"""Compares results, or a trained model, with the digests of what was written; damaged results can be made again:

    maeref verify refined
    maeref verify refined/cell.json
    maeref verify --repair refined
    maeref verify runs/mae

OUTPUT is a folder of results, one result in it, STEM.json or STEM.ome.zarr, or a workdir, whose checkpoints are read.
Reads all of it and changes nothing. --repair makes room for what is damaged: blocks count as not done again, and
changed files are put aside under another name. The refine command that is named then makes just these again.
docs/robustness.md says more.
Exit codes: 0 all is whole, 1 something is damaged or not finished, 2 bad usage, or no result is there.
"""

import shlex
import sys
from pathlib import Path

from maeref_jax.commands import command_line
from maeref_jax.report.table import Table, text_table
from maeref_jax.results import repairing, verifying
from maeref_jax.results.place import Output
from maeref_jax.results.verifying import Part, Verdict, places_in

_MOST = 10  # lines about one volume


def main(argv: list[str]) -> int:
    flags = command_line.parser(__doc__)
    flags.add_argument("output", nargs="+", metavar="OUTPUT", help="a folder of results, STEM.json or STEM.ome.zarr")
    flags.add_argument("--repair", action="store_true", help="make room for what is damaged to be made again")
    arguments = command_line.parse_flags(flags, argv)
    given = [part for path in map(Path, arguments.output) for part in stages_of(path) or [path]]
    workdirs = [path for path in given if is_workdir(path)]
    places = [place for path in given if path not in workdirs for place in places_in(path)]
    found = [looked_at(place, arguments.repair) for place in places] + [tell_of_model(path) for path in workdirs]
    return 0 if all(found) else 1


def is_workdir(path: Path) -> bool:
    """Whether a folder is the workdir of a training that has saved once, whole or not."""
    return (path / "checkpoints").is_dir() or ((path / "config.json").is_file() and (path / "summary.json").is_file())


def stages_of(path: Path) -> list[Path]:
    """The workdirs of the stages of a training in several of them; [] of anything else."""
    if is_workdir(path) or not (path / "config.json").is_file():
        return []
    return [stage for stage in sorted(path.iterdir()) if is_workdir(stage)]


def tell_of_model(workdir: Path) -> bool:
    """Prints which checkpoints of a workdir are damaged, and what is missing of it. Whether it is whole."""
    from maeref_jax.training import checkpoint
    from maeref_jax.training import workdir as folder
    from maeref_jax.volumes.json_files import read_object

    gone = [name for name in ("config.json", "checkpoints") if not (workdir / name).exists()]
    summary = workdir / "summary.json"
    lines = [f"{workdir / name} is missing; copy the workdir again" for name in gone]
    lines += folder.lacking(workdir, read_object(summary)) if summary.is_file() else []
    found, steps = ([], []) if "checkpoints" in gone else (checkpoint.verify(workdir), checkpoint.saved_steps(workdir))
    damaged = any(one.damaged for one in found) or bool(lines)
    print(f"{workdir}: {verifying.DAMAGED if damaged else verifying.WHOLE}, {len(steps)} checkpoints")
    for line in [*lines, *(f"{one.path} {one.text}" for one in found)]:
        print(line)
    return not damaged


def looked_at(place: Output, repair: bool) -> bool:
    """Whether an output is whole, which is told; what keeps it from being read does not stop the others."""
    try:
        return tell(verifying.verify(place), repair)
    except OSError as error:
        print(f"error: {place.stem}: {error}", file=sys.stderr)
        return False


def tell(verdict: Verdict, repair: bool) -> bool:
    """Prints what was found of an output, repairs it if asked to, and says what to do. Whether it is whole."""
    place = verdict.place
    arrays = [part for part in verdict.parts if part.kind == "array"]
    others, blocks = len(verdict.parts) - len(arrays), sum(part.count for part in arrays)
    title = (
        f"{place.directory / place.stem}: {verdict.state} ({len(arrays)} arrays, {blocks} blocks; {others} other parts)"
    )
    rows = tuple((part.name, str(part.count), str(len(part.damage))) for part in verdict.parts if part.damage)
    print(text_table(Table(title, ("", "blocks or files", "damaged"), rows)) if rows else title)
    damage = [_line(place, part, name, why) for part in verdict.parts for name, why in part.damage.items()]
    for line in damage[:_MOST]:
        print(line)
    if len(damage) > _MOST:
        print(f"… and {len(damage) - _MOST} more")
    if verdict.untold:
        print(f"{verdict.untold} blocks were made before digests were kept: they can be read, more is not known")
    if verdict.state in (verifying.WHOLE, verifying.UNKNOWN):
        return True
    if verdict.state == verifying.UNFINISHED:
        print(f"to finish it ({verdict.waiting} blocks are to be done): {_command(verdict)}")
        return False
    if why := repairing.can_be_repaired(verdict):
        print(f"{why}, so it cannot be repaired; to make it anew: {_command(verdict, repairing.ANEW)}")
    elif not repair:
        print(f"to make it again: maeref verify --repair {shlex.quote(str(place.folder))}, then: {_command(verdict)}")
    else:
        for line in repairing.repair(verdict):
            print(line)
        print(f"to make it again: {_command(verdict)}")
    return False


def _line(place: Output, part: Part, name: str, why: str) -> str:
    """A line about one damaged block, mark or file."""
    path = place.directory / part.name
    if part.kind == "array" and name:
        return f"{path}, block ({name.replace('_', ', ')}) {why}"
    return f"{path / name} {why}"


def _command(verdict: Verdict, *more: str) -> str:
    """What to type, where that is known."""
    if not verdict.typed:
        return " ".join(["the same command that made it", *(f"with {flag}" for flag in more)])
    return shlex.join([*(word for word in verdict.typed if word != repairing.ANEW), *more])
