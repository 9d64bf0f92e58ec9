"""Finds the unreliable places of a segmentation and fills them in: volumes in, refined volumes out.

  an image, with this library's ensemble:
    python refine.py --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae
  your own segmentation, with its entropy, or a mask painted over the unreliable places:
    python refine.py --labels labels.tif --entropy entropy.tif --output DIR --refiner runs/mae
    python refine.py --labels labels.tif --hidden painted.tif --output DIR --refiner runs/mae
  your own class probabilities (several files for one input are members of an ensemble):
    python refine.py --probabilities a.tif b.tif --output DIR --refiner runs/mae
  several volumes:
    python refine.py --input 'stacks/*.tif' --labels '{stem}_labels.tif' --entropy '{stem}_entropy.tif' ...

  many processes, on one machine or on many (docs/clusters.md):
    python refine.py ... --workers 4
    python refine.py ... --num_parts 8 --part_id 3

Input is any format of docs/formats.md: TIFF, folders of slices, OME-Zarr, Zarr, N5, precomputed, HDF5, .npy, .npz.
Results are STEM.ome.zarr with all maps, TIFF stacks, STEM_objects.csv, skeletons and STEM.json: docs/viewers.md. The
same command again continues an interrupted run and leaves a completed one alone. Exit codes: 0 done, 1 some inputs
failed, 2 bad usage or bad input, 130 and 143 interrupted.
"""

import argparse
import glob
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax import command_line
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.volumes.formats.store import is_url, join, split
from maeref_jax.volumes.formats.stored import split_inner
from maeref_jax.volumes.volume import FILES, MAKERS, Volume, open_probabilities, open_volume, split_range

CONFIG = Path(__file__).parent / "configs" / "refine.py"
SUFFIXES = sorted({*FILES, *MAKERS, ".ome.tif", ".ome.tiff"}, key=len, reverse=True)
# Fields of the config that are settings of pipeline.refine_volume.
PIPELINE = (
    *("threshold", "ambiguous_threshold", "token", "block", "batch", "seed"),
    *("overwrite", "tiff_export", "copy_image", "ome_zarr", "entropy_kind"),
    *("objects", "object_classes", "cristae_class", "smallest_object_vx", "flag_hidden_share"),
    *("num_parts", "part_id", "wait_minutes"),
)


class Request(NamedTuple):
    """One input and what belongs to it: role -> path, "probabilities" -> tuple of paths."""

    stem: str
    paths: dict[str, Any]


def main(argv: list[str]) -> int:
    config = read_config(argv)
    requests = [request for request in find_requests(config) if config.serve in ("", request.stem)]
    several = len(requests) > 1
    # All files are opened before the first second is spent on networks.
    volumes, failed = {}, {}
    for request in requests:
        try:
            volumes[request.stem] = open_request(request, config)
        except (BadInput, OSError) as error:
            if not several and isinstance(error, BadInput):
                raise
            fail(failed, request.stem, error)
    if config.serve:
        serve(config, volumes)
        return 0
    if config.dry_run:
        tell_plans(config, volumes, failed)
        return 1 if failed else 0
    waiting = refine_all(config, volumes, failed, several, argv) if volumes else []
    if several:
        ending = f"; failed: {', '.join(failed)}" if failed else ""
        ending += f"; waiting for other parts: {', '.join(waiting)}" if waiting else ""
        print(f"{len(requests) - len(failed) - len(waiting)} of {len(requests)} inputs done{ending}")
    return 1 if failed else 0


def read_config(argv: list[str]):
    """The config with overrides and flags applied. Raises BadInput where they are incomplete or contradict."""
    flags = command_line.parser(__doc__)
    add = flags.add_argument
    add(
        "--input",
        nargs="+",
        metavar="PATH",
        help="images: files, folders, URLs, globs; image.tif[0:8] for slices, a.h5:/raw for a dataset",
    )
    add("--output", metavar="DIR", help="where the results go")
    add("--ensemble", metavar="DIR", help="workdir of the ensemble that segments the image")
    add("--labels", metavar="PATH", help="your own labels, instead of an ensemble")
    add("--entropy", metavar="PATH", help="entropy of your labels: float in [0, 1], or uint8")
    add("--hidden", metavar="PATH", help="a painted mask of what to refine: nonzero is hidden")
    add("--probabilities", nargs="+", metavar="PATH", help="your own class probabilities (axes CZYX)")
    add("--refiner", metavar="DIR|none", help="workdir of the refiner; none: segment only")
    add("--threshold", metavar="T", help="tokens of higher mean entropy are hidden (default: the refiner's own)")
    add("--axes", metavar="ZYX", help="axes as stored, for files that do not say")
    add("--voxel_size_nm", metavar="Z,Y,X", help="for files that do not say")
    add("--channel", metavar="N|NAME", help="which channel of the image: index from 0, or name")
    add("--copy_image", action="store_true", default=None, help="put the image into STEM.ome.zarr, not only its path")
    add("--dry_run", action="store_true", default=None, help="say what it will take (disk, memory, hours), do nothing")
    add("--overwrite", action="store_true", default=None, help="remove an earlier output first")
    add("--num_parts", metavar="N", help="so many processes work on the same output, started by you, on any machine")
    add("--part_id", metavar="I", help="which of them this is, from 0 to N - 1")
    add("--workers", metavar="N", help="so many processes, started and watched by this one (pip install 'daisy>=2')")
    add("--serve", help=argparse.SUPPRESS)  # what a worker is started with: the stem
    add("--config", default=str(CONFIG), metavar="FILE[:MODE]", help="everything else: see configs/refine.py")
    arguments, overrides = command_line.parse(flags, argv)
    # A flag wins over the config field of its name; its value is read and checked as that field's.
    given = {name: value for name, value in vars(arguments).items() if name != "config" and value is not None}
    many = {name: tuple(given.pop(name)) for name in ("input", "probabilities") if name in given}
    overrides += [f"--config.{name}={value}" for name, value in given.items()]
    config = command_line.load_config(arguments.config, overrides)
    config.update(many)
    check_usage(config)
    return config


def check_usage(config) -> None:
    """Raises BadInput for flags that are missing or exclude one another."""
    for name in ("output", "refiner"):
        if not config[name]:
            raise BadInput(f"--{name} is missing (--help shows examples)")
    sources = [name for name in ("ensemble", "labels", "probabilities") if config[name]]
    if len(sources) != 1:
        raise BadInput(
            "expected one of --ensemble (with --input), --labels (with --entropy or --hidden) and --probabilities, "
            f"found {' and '.join(f'--{name}' for name in sources) or 'none of them'}"
        )
    if config.ensemble and not config.input:
        raise BadInput("--input is missing: the ensemble needs an image")
    beside = [f"--{name}" for name in ("entropy", "hidden") if config[name]]
    if config.labels and len(beside) != 1:
        raise BadInput(
            f"--labels needs one of --entropy and --hidden beside it, found {' and '.join(beside) or 'none'}"
        )
    if beside and not config.labels:
        raise BadInput(f"{' and '.join(beside)} belongs to --labels, which is missing")
    if config.workers < 0 or (config.workers and config.num_parts > 1):
        raise BadInput(f"--workers {config.workers} with --num_parts {config.num_parts}, expected one of the two")
    size = config.voxel_size_nm
    if size and not (len(size) == 3 and all(isinstance(length, int | float) and length > 0 for length in size)):
        raise BadInput(f"--voxel_size_nm Z,Y,X expects three positive numbers, found {size}")
    for name in ("ensemble", "refiner"):
        if config[name] not in ("", "none") and not (Path(config[name]) / "config.json").is_file():
            raise BadInput(f"--{name} {config[name]} is not the workdir of a train.py run: it has no config.json")


def find_requests(config) -> list[Request]:
    """One Request per input; the labels take the place of the images where no image is given."""
    if not config.input and not config.labels:
        return [Request(stem_of(config.probabilities[0]), {"probabilities": config.probabilities})]
    leading, patterns = ("image", config.input) if config.input else ("labels", (config.labels,))
    paths = expand(patterns)
    several = len(paths) > 1
    requests = []
    for path in paths:
        found: dict[str, Any] = {leading: path}
        for role in ("labels", "entropy", "hidden"):
            if config[role] and role != leading:
                found[role] = fill_in(config[role], role, path, several)
        if config.probabilities:
            found["probabilities"] = tuple(fill_in(p, "probabilities", path, several) for p in config.probabilities)
        requests.append(Request(stem_of(path), found))
    twice = [stem for stem, count in Counter(request.stem for request in requests).items() if count > 1]
    if twice:
        raise BadInput(f"several inputs are called '{twice[0]}' and would share one result; give each its own --output")
    return requests


def expand(patterns: tuple[str, ...]) -> list[str]:
    """Paths, with globs resolved; a z range or dataset behind a glob stays with every path."""
    paths = []
    for pattern in patterns:
        base, z_range = split_range(pattern)
        base, inner = (base, None) if is_url(base) else split_inner(base)
        if is_url(base) or base.exists() or not glob.has_magic(str(base)):
            paths.append(str(pattern))
            continue
        found = sorted(glob.glob(str(base), recursive=True))
        if not found:
            raise BadInput(f"no file matches {base}")
        ending = (f":/{inner}" if inner else "") + (f"[{z_range[0]}:{z_range[1]}]" if z_range else "")
        paths += [f"{path}{ending}" for path in found]
    return paths


def stem_of(path: str) -> str:
    """The name of the input without its format: "mito.ome.tif[0:8]" and "mito.h5:/raw" -> "mito"."""
    name = split(_place(path))[1]
    suffix = next((suffix for suffix in SUFFIXES if name.lower().endswith(suffix)), "")
    return name[: len(name) - len(suffix)]


def _place(path: str) -> str | Path:
    """The file, folder or URL, without z range and dataset."""
    base = split_range(path)[0]
    return base if is_url(base) else split_inner(base)[0]


def fill_in(pattern: str, role: str, path: str, several: bool) -> str:
    """The path of `role` that belongs to the input `path`: beside it, unless the pattern names a folder."""
    if "{stem}" not in pattern:
        if several:
            example = f"'{{stem}}_{role}.tif'"
            raise BadInput(f"--{role} {pattern}: with several inputs a name pattern is needed, such as {example}")
        return pattern
    name = pattern.replace("{stem}", stem_of(path))
    place = _place(path)
    dataset = None if is_url(name) else split_inner(split_range(name)[0])[1]
    if ("/" in name) if dataset is None else not name.startswith(_place(name).name):
        return name
    return join(split(place)[0], name) if is_url(place) else str(Path(place).parent / name)


def open_request(request: Request, config) -> dict[str, Any]:
    """The request's Volumes by role."""
    axes, size = config.axes or None, tuple(config.voxel_size_nm) or None
    channel = int(config.channel) if config.channel and config.channel.isdecimal() else config.channel

    def open_one(role: str, path: str) -> Volume:
        # Only images have channels to choose from.
        return open_volume(path, axes=axes, voxel_size_nm=size, channel=channel if role == "image" else None)

    volumes = {role: open_one(role, path) for role, path in request.paths.items() if role != "probabilities"}
    probabilities = (open_probabilities(path, axes=axes) for path in request.paths.get("probabilities", ()))
    return volumes | {"probabilities": tuple(probabilities)}


def refine_all(config, volumes, failed: dict[str, str], several: bool, argv: list[str]) -> list[str]:
    """Refines what could be opened, one after the other; what fails is added to `failed` and does not stop the rest.
    Returns the stems that are not complete yet, because other parts are not.
    """
    # Imported late: --help and mistakes in the command are answered without waiting for jax.
    from maeref_jax import jobs, pipeline
    from maeref_jax.volumes.inputs import doubt_about_scale
    from maeref_jax.volumes.output import Output, check_apart

    every = [volume for roles in volumes.values() for volume in of_roles(roles)]
    # No output may replace the input of another job, nor a second run read the first one's results.
    for stem in volumes:
        check_apart(Output(Path(config.output), stem), every)
    segmenter, refiner, settings = load_models(config)
    print(jobs.thresholds_of(config, refiner)[1], flush=True)
    model, waiting = segmenter or refiner, []
    for stem, roles in volumes.items():
        found_nm = next((v.voxel_size_nm for v in of_roles(roles) if v.voxel_size_nm), None)
        doubt = model and doubt_about_scale(stem, found_nm, model.workdir, model.settings["voxel_size_nm"])
        if doubt:
            print(f"warning: {doubt}", file=sys.stderr)
        job = jobs.Job(stem=stem, output=Path(config.output), **roles)
        try:
            if config.workers:
                summary = refine_by_workers(config, job, segmenter, refiner, settings, argv)
            else:
                summary = pipeline.refine_volume(job, segmenter, refiner, settings)
        except (BadInput, CannotGoOn, OSError) as error:
            if not several and not isinstance(error, OSError):
                raise
            fail(failed, stem, error)
            continue
        if summary is None:
            waiting.append(stem)
            continue
        share, changed = summary["hidden_share"], summary["changed_voxels"] / summary["voxels"]
        print(f"{stem}: {share:.2%} of the voxels hidden, {changed:.2%} relabelled; see {config.output}/{stem}.json")
    return waiting


def tell_plans(config, volumes: dict[str, dict], failed: dict[str, str]) -> None:
    """Prints what refining takes, for each input and together. Writes nothing."""
    from maeref_jax import jobs, plan

    segmenter, refiner, settings = load_models(config)
    settled = jobs.settled(settings, refiner)
    models = {"segment": segmenter, "refine": refiner}
    speeds = {step: plan.measure(model, settled) for step, model in models.items() if model}
    found = []
    for stem, roles in volumes.items():
        job = jobs.Job(stem=stem, output=Path(config.output), **roles)
        try:
            found.append(plan.plan(job, segmenter, refiner, settings, speeds))
        except (BadInput, OSError) as error:
            fail(failed, stem, error)
            continue
        print("\n".join(plan.described(stem, found[-1], config.num_parts)))
    if found:
        print("\n".join(plan.described_total(found, Path(config.output), config.num_parts)))


def load_models(config):
    """The segmenter and the refiner, each a Model or None, and the pipeline's Settings."""
    from maeref_jax import jobs, pipeline

    segmenter = pipeline.load_model(config.ensemble, "segmenter") if config.ensemble else None
    refiner = None if config.refiner == "none" else pipeline.load_model(config.refiner, "refiner")
    use = {name: value for name, value in config.use.items() if value is not None}
    refiner = used_as(refiner, use) if refiner and use else refiner
    return segmenter, refiner, jobs.Settings(**{name: config[name] for name in PIPELINE})


def refine_by_workers(config, job, segmenter, refiner, settings, argv: list[str]) -> dict | None:
    """As `pipeline.refine_volume`, the blocks being done by workers: processes of this script with --serve."""
    from maeref_jax import pipeline, workers

    run = pipeline.open_run(job, segmenter, refiner, settings)
    if run is None:
        return pipeline.load_summary(job)
    command = [*shlex.split(config.worker_command), sys.executable, sys.argv[0], *argv, "--serve", job.stem]
    workers.share_out(run.place, *pipeline.block_grid(run), config.workers, command, local=not config.worker_command)
    return pipeline.finish(run)


def serve(config, volumes: dict[str, dict]) -> None:
    """What a worker does: the blocks that it is given of one input."""
    from maeref_jax import jobs, pipeline, workers

    segmenter, refiner, settings = load_models(config)
    ((stem, roles),) = volumes.items()
    job = jobs.Job(stem=stem, output=Path(config.output), **roles)
    run = pipeline.open_run(job, segmenter, refiner, settings._replace(overwrite=False), lambda line: None)
    if run is not None:
        workers.serve(pipeline.passes(run), run.place, run.shape, run.settings.block)


def used_as(refiner, use: dict):
    """The refiner with settings of its group `use` replaced: how it fills, not what it has learned."""
    from maeref_jax import pipeline

    settings = {**refiner.settings, "use": {**refiner.settings["use"], **use}}
    return refiner._replace(settings=settings, apply=pipeline.REFINERS[refiner.name].refiner(settings))


def of_roles(roles: dict[str, Any]) -> list[Volume]:
    """All Volumes of one input; "probabilities" is a tuple of them."""
    return [volume for role in roles.values() for volume in (role if isinstance(role, tuple) else (role,))]


def fail(failed: dict[str, str], stem: str, error: Exception) -> None:
    failed[stem] = str(error)
    print(f"error: {stem}: {error}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
