"""Finds the unreliable places of a segmentation and fills them in: volumes in, refined volumes out.

  an image, with this library's ensemble:
    python refine.py --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae
  your own segmentation, with its entropy, or a mask painted over the unreliable places:
    python refine.py --labels labels.tif --entropy entropy.tif --output DIR --refiner runs/mae
    python refine.py --labels labels.tif --hidden painted.tif --output DIR --refiner runs/mae
  your own class probabilities (several files for one input are members of an ensemble):
    python refine.py --probabilities a.tif b.tif --output DIR --refiner runs/mae
  which threshold of entropy, tried on a volume whose truth is known (or, without a path, shown as pictures):
    python refine.py --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae
                     --suggest_threshold truth.tif
  several volumes:
    python refine.py --input 'stacks/*.tif' --labels '{stem}_labels.tif' --entropy '{stem}_entropy.tif' ...
    python refine.py --batch table.csv --output DIR --refiner runs/mae

  many processes, on one machine or on many (docs/clusters.md):
    python refine.py ... --workers 4
    python refine.py ... --num_parts 8 --part_id 3

Input is any format of docs/formats.md: TIFF, folders of slices, OME-Zarr, Zarr, N5, precomputed, HDF5, .npy, .npz.
Results are STEM.ome.zarr with all maps, TIFF stacks, tables, skeletons and STEM.json, and report.html for all inputs:
docs/viewers.md. The same command again continues an interrupted run and leaves a completed one alone. Exit codes:
0 done, 1 some inputs failed, 2 bad usage or bad input, 130 and 143 interrupted.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from maeref_jax import batches, command_line
from maeref_jax.batches import Request
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.volumes.volume import Volume, open_probabilities, open_volume

CONFIG = Path(__file__).parent / "configs" / "refine.py"
# Fields of the config that are settings of pipeline.refine_volume.
PIPELINE = (
    *("threshold", "ambiguous_threshold", "agree_within_nm", "token", "block", "batch", "seed"),
    *("overwrite", "tiff_export", "copy_image", "ome_zarr", "entropy_kind"),
    *("objects", "object_classes", "cristae_class", "smallest_object_vx", "flag_hidden_share"),
    *("trust", "foreignness", "leave"),
    *("num_parts", "part_id", "wait_minutes"),
)


def main(argv: list[str]) -> int:
    config = read_config(argv)
    requests, bad_rows = find_requests(config)
    count, failed = len(requests) + len(bad_rows), {}
    several = count > 1 and not config.serve
    for name, problem in bad_rows.items():
        fail(failed, name, BadInput(problem))
    # All files are opened before the first second is spent on networks.
    volumes, witnesses = {}, {}
    for request in requests:
        if config.serve not in ("", request.stem):
            continue
        try:
            opened = open_request(request, config)
            if config.witness and not config.serve:
                witnesses[request.stem] = open_witness(request, config, opened, several)
            volumes[request.stem] = opened
        except (BadInput, OSError) as error:
            if not several and isinstance(error, BadInput):
                raise
            fail(failed, request.stem, error)
    if config.serve:
        serve(config, volumes)
        return 0
    if config.suggest_threshold:
        suggest_threshold(config, volumes)
        return 0
    if config.dry_run:
        tell_plans(config, volumes, failed, several)
        return 1 if failed else 0
    waiting = refine_all(config, volumes, witnesses, failed, several, argv) if volumes else []
    if several:
        ending = f"; failed: {', '.join(failed)}" if failed else ""
        ending += f"; waiting for other parts: {', '.join(waiting)}" if waiting else ""
        print(f"{count - len(failed) - len(waiting)} of {count} inputs done{ending}")
    return 1 if failed else 0


def read_config(argv: list[str]):
    """The config with overrides and flags applied. Raises BadInput where they are incomplete or contradict."""
    flags = command_line.parser(__doc__)
    add = flags.add_argument
    add(
        "--input",
        nargs="+",
        metavar="PATH",
        help="images: files, folders (also of many), URLs, globs; image.tif[0:8] for slices, a.h5:/raw for a dataset",
    )
    add("--batch", metavar="TABLE.csv", help="a row for every input, columns image, labels, …: docs/formats.md")
    add("--output", metavar="DIR", help="where the results go")
    add("--ensemble", metavar="DIR", help="workdir of the ensemble that segments the image")
    add("--labels", metavar="PATH", help="your own labels, instead of an ensemble")
    add("--entropy", metavar="PATH", help="entropy of your labels: float in [0, 1], or uint8")
    add("--hidden", metavar="PATH", help="a painted mask of what to refine: nonzero is hidden")
    add("--probabilities", nargs="+", metavar="PATH", help="your own class probabilities (axes CZYX)")
    add("--refiner", metavar="DIR|none", help="workdir of the refiner; none: segment only")
    add("--threshold", metavar="T", help="tokens of higher mean entropy are hidden (default: the refiner's own)")
    add(
        "--suggest_threshold",
        nargs="?",
        const="none",
        metavar="TRUTH",
        help="refine nothing: try thresholds, store the one that gets most voxels right of TRUTH in the refiner",
    )
    add("--axes", metavar="ZYX", help="axes as stored, for files that do not say")
    add("--voxel_size_nm", metavar="Z,Y,X", help="for files that do not say")
    add("--channel", metavar="N|NAME", help="which channel of the image: index from 0, or name")
    add(
        "--witness",
        metavar="CHANNEL|PATH",
        help="an independent stain, a channel of the image or a file: score the outlines, before and after, against it",
    )
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
    if "batch" in given:  # the field `batch` is the number of windows
        given["batch_table"] = given.pop("batch")
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
    given = [name for name in ("input", "labels", "entropy", "hidden", "probabilities") if config[name]]
    if config.batch_table and given:
        raise BadInput(f"--batch and --{given[0]} both say what to refine; put the paths into {config.batch_table}")
    if not config.batch_table:
        batches.check_sources([*given, *["ensemble"] * bool(config.ensemble)], "--")
    if config.workers < 0:
        raise BadInput(f"--workers must be the number of processes, 1 or more, or 0 for none; found {config.workers}")
    if config.workers and config.num_parts > 1:
        raise BadInput(f"--workers {config.workers} with --num_parts {config.num_parts}, expected one of the two")
    if config.suggest_threshold:
        wrong = [f"--{name}" for name in ("batch_table", "labels", "dry_run", "workers") if config[name]]
        wrong += ["--num_parts"] * (config.num_parts != 1) + ["--refiner none"] * (config.refiner == "none")
        if wrong:
            raise BadInput(
                f"--suggest_threshold does not go with {', '.join(wrong).replace('batch_table', 'batch')}: it "
                "wants one --input with --ensemble, or --probabilities of one, and a --refiner, in one process"
            )
    if config.ensemble_symmetries is not None and not config.ensemble:
        raise BadInput("--config.ensemble_symmetries says how --ensemble predicts, which is missing; leave it out")
    size = config.voxel_size_nm
    if size and not (len(size) == 3 and all(isinstance(length, int | float) and length > 0 for length in size)):
        raise BadInput(f"--voxel_size_nm Z,Y,X expects three positive numbers, found {size}")
    for name in ("ensemble", "refiner"):
        if config[name] not in ("", "none") and not (Path(config[name]) / "config.json").is_file():
            raise BadInput(f"--{name} {config[name]} is not the workdir of a train.py run: it has no config.json")


def find_requests(config) -> tuple[list[Request], dict[str, str]]:
    """One Request per input, and what is wrong with rows of a batch, by stem or line."""
    if config.batch_table:
        return batches.read_table(config.batch_table, bool(config.ensemble))
    roles = {role: config[role] for role in ("labels", "entropy", "hidden", "probabilities")}
    return batches.requests_of(config.input, **roles), {}


def open_request(request: Request, config) -> dict[str, Any]:
    """The request's Volumes by role."""
    axes = request.axes or config.axes or None
    size = request.voxel_size_nm or tuple(config.voxel_size_nm) or None
    channel = int(config.channel) if config.channel and config.channel.isdecimal() else config.channel

    def open_one(role: str, path: str) -> Volume:
        # Only images have channels to choose from.
        return open_volume(path, axes=axes, voxel_size_nm=size, channel=channel if role == "image" else None)

    volumes = {role: open_one(role, path) for role, path in request.paths.items() if role != "probabilities"}
    probabilities = (open_probabilities(path, axes=axes) for path in request.paths.get("probabilities", ()))
    return volumes | {"probabilities": tuple(probabilities)}


def open_witness(request: Request, config, volumes: dict[str, Any], several: bool) -> Volume:
    """The stain of --witness: a channel of the request's image, or the file that belongs to the input."""
    from maeref_jax import stain

    said, size = config.witness, request.voxel_size_nm or tuple(config.voxel_size_nm) or None
    given = {"axes": request.axes or config.axes or None, "voxel_size_nm": size}
    if "{" in said or "/" in said or Path(said).suffix or Path(said).exists():
        leading = request.paths.get("image") or request.paths.get("labels") or request.paths["probabilities"][0]
        found = open_volume(batches.fill_in(said, "witness", leading, several), **given)
    elif "image" not in request.paths:
        raise BadInput(f"--witness {said} is no file, so it is a channel of the image; give --input, or a path")
    else:
        found = open_volume(request.paths["image"], **given, channel=int(said) if said.isdecimal() else said)
    stain.check(found, of_roles(volumes)[0].shape, config.witness_distance_vx, config.witness_reach_vx)
    return found


def refine_all(config, volumes, witnesses, failed: dict[str, str], several: bool, argv: list[str]) -> list[str]:
    """Refines what could be opened, one after the other; what fails is added to `failed` and does not stop the rest.
    Returns the stems that are not complete yet, because other parts are not. witnesses: the stains, by stem.
    """
    # Imported late: --help and mistakes in the command are answered without waiting for jax.
    from maeref_jax import jobs, pipeline
    from maeref_jax.volumes.inputs import doubt_about_scale
    from maeref_jax.volumes.output import Output, check_apart

    every = [volume for roles in (*volumes.values(), witnesses) for volume in of_roles(roles)]
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
            if summary is not None and stem in witnesses:
                scheme = jobs.scheme_of(segmenter, refiner)
                summary = score_by_witness(config, stem, witnesses[stem], summary, jobs.object_rules(scheme, settings))
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
        for name, found in summary["witness"]["near_hidden"].items() if stem in witnesses else ():
            print(f"{stem}: {name} outlines against the stain, near hidden tokens: AUROC {found['auroc']}")
    # Of several parts, one that has nothing finished has nothing to tell; what others still do stands in the page.
    if config.report and len(waiting) < len(volumes):
        write_report(config, volumes, segmenter, refiner, failed)
    return waiting


def score_by_witness(config, stem: str, witness: Volume, summary: dict, rules) -> dict:
    """The summary with the entry "witness", in the sidecar as well; counted unless it is there already."""
    from maeref_jax import stain
    from maeref_jax.volumes import output, results

    place = output.Output(Path(config.output), stem)
    asked = (rules.classes, config.witness_distance_vx, config.witness_reach_vx)
    wanted = json.loads(json.dumps(stain.asked_for(witness, *asked)))
    if wanted.items() <= summary.get("witness", {}).items():
        return summary
    roles = ("hidden", "initial", *["refined"] * (summary["made_by"]["refiner"] is not None))
    arrays = {role: open_volume(results.path_of(place, role)) for role in roles}
    found = stain.score(arrays, witness, summary["made_by"]["settings"]["block"], *asked)
    output.write_json(place.sidecar, summary | {"witness": found})
    return output.load_sidecar(place)


def write_report(config, volumes: dict[str, dict], segmenter, refiner, failed: dict[str, str]) -> None:
    """report.html of the output folder."""
    import jax
    import numpy as np

    from maeref_jax import __version__, jobs
    from maeref_jax.report.refinement import write_page

    learned = sum(int(np.size(leaf)) for leaf in jax.tree.leaves(refiner.params)) if refiner else None
    models = {"members": segmenter.settings.get("members") if segmenter else None, "parameters": learned}
    images = {stem: roles.get("image") for stem, roles in volumes.items()}
    scheme = jobs.scheme_of(segmenter, refiner)
    path = write_page(Path(config.output), images, failed, scheme, models, {"maeref_jax": __version__})
    print(f"pictures and tables: {path}") if path else None


def suggest_threshold(config, volumes: dict[str, dict]) -> None:
    """Tries thresholds on one input, prints the table, draws it, and stores the best one where the truth is known."""
    from maeref_jax import jobs, report, suggestion

    if len(volumes) != 1:
        raise BadInput(f"--suggest_threshold tries one input, found {', '.join(volumes) or 'none that can be opened'}")
    ((stem, roles),) = volumes.items()
    truth = None
    if config.suggest_threshold != "none":
        size = tuple(config.voxel_size_nm) or None
        truth = open_volume(config.suggest_threshold, axes=config.axes or None, voxel_size_nm=size)
    segmenter, refiner, settings = load_models(config)
    job = jobs.Job(stem=stem, output=Path(config.output) / "suggestion", **roles)
    found = suggestion.suggest(job, segmenter, refiner, settings, truth)
    print("\n" + report.text_table(suggestion.table(found)))
    for name, png in (("curve", suggestion.curve(found)), ("pictures", suggestion.pictures(found))):
        path = Path(config.output) / f"{stem}_threshold_{name}.png"
        path.write_bytes(png)
        print(path)
    if found.best is not None:
        members = jobs.members_of(job, segmenter)
        stored = suggestion.store(found, refiner, segmenter, settings.entropy_kind, members, config.suggest_threshold)
        print(f"refine.py and evaluate.py use {found.best:g} from now on: {stored}")


def tell_plans(config, volumes: dict[str, dict], failed: dict[str, str], several: bool) -> None:
    """Prints what refining takes, for each input and together. Writes nothing."""
    from maeref_jax import jobs, plan

    segmenter, refiner, settings = load_models(config)
    planned = {stem: jobs.Job(stem=stem, output=Path(config.output), **roles) for stem, roles in volumes.items()}
    for job in planned.values():
        jobs.check_chosen(job, segmenter, refiner, settings)
    settled = jobs.settled(settings, refiner)
    models = {"segment": segmenter, "refine": refiner}
    speeds = {step: plan.measure(model, settled) for step, model in models.items() if model}
    found = []
    for stem, job in planned.items():
        try:
            found.append(plan.plan(job, segmenter, refiner, settings, speeds))
        except (BadInput, OSError) as error:
            if not several and isinstance(error, BadInput):
                raise
            fail(failed, stem, error)
            continue
        print("\n".join(plan.described(stem, found[-1], config.num_parts)))
    if found:
        print("\n".join(plan.described_total(found, Path(config.output), config.num_parts)))


def load_models(config):
    """The segmenter and the refiner, each a Model or None, and the pipeline's Settings."""
    from maeref_jax import jobs, pipeline, trust
    from maeref_jax.training.workdir import keep_compiled

    if config.ensemble or config.refiner != "none":
        keep_compiled(config.ensemble if config.refiner == "none" else config.refiner)
    segmenter = pipeline.load_model(config.ensemble, "segmenter") if config.ensemble else None
    if segmenter and config.ensemble_symmetries is not None:
        known = {**segmenter.settings, "use": {"symmetries": config.ensemble_symmetries}}
        segmenter = segmenter._replace(settings=known, apply=pipeline.SEGMENTERS[segmenter.name].segmenter(known))
    if segmenter and segmenter.settings["members"] == 1 and not segmenter.settings["use"]["symmetries"]:
        alone = "has one member: its entropy knows nothing that another one would have seen otherwise"
        print(f"warning: {config.ensemble} {alone}; try --config.ensemble_symmetries=true", file=sys.stderr)
    refiner = None if config.refiner == "none" else pipeline.load_model(config.refiner, "refiner")
    use = {name: value for name, value in config.use.items() if value is not None}
    refiner = used_as(refiner, use) if refiner and use else refiner
    limits = trust.Limits(**config.trust_limits)
    return segmenter, refiner, jobs.Settings(**{name: config[name] for name in PIPELINE}, trust_limits=limits)


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
    from maeref_jax import jobs, passes, pipeline, workers

    segmenter, refiner, settings = load_models(config)
    ((stem, roles),) = volumes.items()
    job = jobs.Job(stem=stem, output=Path(config.output), **roles)
    run = pipeline.open_run(job, segmenter, refiner, settings._replace(overwrite=False), lambda line: None)
    if run is not None:
        workers.serve(passes.passes(run), run.place, run.shape, run.settings.block)


def used_as(refiner, use: dict):
    """The refiner with settings of its group `use` replaced: how it fills, not what it has learned."""
    from maeref_jax import pipeline

    if "use" not in refiner.settings:
        raise BadInput(
            f"{refiner.workdir}: a refiner of method '{refiner.name}' fills in one way; leave out {_flags(use)}"
        )
    settings = {**refiner.settings, "use": {**refiner.settings["use"], **use}}
    # Confidence was calibrated for one way to fill.
    calibration = refiner.calibration if settings["use"] == refiner.settings["use"] else None
    apply = pipeline.REFINERS[refiner.name].refiner(settings)
    return refiner._replace(settings=settings, apply=apply, calibration=calibration)


def _flags(use: dict) -> str:
    return ", ".join(f"--config.use.{name}" for name in use)


def of_roles(roles: dict[str, Any]) -> list[Volume]:
    """All Volumes of one input; "probabilities" is a tuple of them."""
    return [volume for role in roles.values() for volume in (role if isinstance(role, tuple) else (role,))]


def fail(failed: dict[str, str], stem: str, error: Exception) -> None:
    failed[stem] = str(error)
    print(f"error: {stem}: {error}", file=sys.stderr)


if __name__ == "__main__":
    command_line.run(main)
