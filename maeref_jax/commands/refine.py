"""Finds the unreliable places of a segmentation and fills them in: volumes in, refined volumes out.

  an image, with this library's ensemble:
    maeref refine --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae
  your own segmentation, with its entropy, or a mask painted over the unreliable places:
    maeref refine --labels labels.tif --entropy entropy.tif --output DIR --refiner runs/mae
    maeref refine --labels labels.tif --hidden painted.tif --output DIR --refiner runs/mae
  your own segmentation of a stack, made continuous along z, without training and without entropy:
    maeref refine --labels labels.tif --output DIR --refiner continuity
  (with both --entropy and --hidden, what either of them hides is hidden)
  your own class probabilities (several files for one input are members of an ensemble):
    maeref refine --probabilities a.tif b.tif --output DIR --refiner runs/mae
  nnU-Net's predictions, folders as they are (docs/nnunet.md):
    maeref refine --nnunet PREDICTIONS --input imagesTs --output DIR --refiner runs/mae
  which threshold of entropy, tried on a volume whose truth is known (or, without a path, shown as pictures):
    maeref refine --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae
                     --suggest_threshold truth.tif
  only the tissue, of a volume that is mostly resin (docs/tissue.md):
    maeref refine --input image.tif --output DIR --ensemble runs/ensemble --refiner runs/mae --within mask.ome.zarr
  several volumes:
    maeref refine --input 'stacks/*.tif' --labels '{stem}_labels.tif' --entropy '{stem}_entropy.tif' ...
    maeref refine --batch table.csv --output DIR --refiner runs/mae

  many processes, on one machine or on many (docs/clusters.md):
    maeref refine ... --workers 4
    maeref refine ... --num_parts 8 --part_id 3

Input is any format of docs/formats.md: TIFF, folders of slices, OME-Zarr, Zarr, N5, precomputed, HDF5, .npy, .npz.
Results are STEM.ome.zarr with all maps, TIFF stacks, tables, skeletons and STEM.json, and report.html for all inputs:
docs/results.md. The same command again continues an interrupted run and leaves a completed one alone. Exit codes:
0 done, 1 some inputs failed, 2 bad usage or bad input, or a warning with --strict, 130 and 143 interrupted.
"""

import functools
from pathlib import Path

from maeref_jax.commands import opening, usage
from maeref_jax.commands.opening import Opened


def main(argv: list[str]) -> int:
    config = usage.read_config(argv, __doc__)
    requests, wrong = opening.find_requests(config)
    count, failed = len(requests) + len(wrong), {}
    several = count > 1 and not config.serve
    for line, problem in wrong.items():
        opening.fail(line, problem, failed)
    # All files are opened before the first second is spent on networks.
    opened = opening.open_all(requests, config, failed, several)
    if config.serve:
        serve(config, opened)
    elif config.suggest_threshold:
        suggest_threshold(config, opened)
    elif config.dry_run:
        tell_plans(config, opened, failed, several)
    else:
        waiting = refine_all(config, opened, failed, several) if opened else []
        if several:
            ending = f"; failed: {', '.join(failed)}" if failed else ""
            ending += f"; waiting for other parts: {', '.join(waiting)}" if waiting else ""
            print(f"{count - len(failed) - len(waiting)} of {count} inputs done{ending}")
    return 1 if failed else 0


def refine_all(config, opened: list[Opened], failed: dict[str, str], several: bool) -> list[str]:
    """Refines what could be opened, one after the other; what fails is added to `failed` and does not stop the rest.
    Returns the stems that are not complete yet, because other parts are not.
    """
    # Imported late, here and below: --help and mistakes in the command are answered without waiting for jax.
    from maeref_jax.commands.load_models import load_models
    from maeref_jax.pipeline import jobs
    from maeref_jax.results.output import check_apart
    from maeref_jax.results.place import Output

    every = [volume for one in opened for volume in opening.all_of(one.volumes)]
    every += [one.witness for one in opened if one.witness]
    # No output may replace the input of another job, nor a second run read the first one's results.
    for one in opened:
        check_apart(Output(Path(config.output), one.stem, jobs.formats_of(config)), every)
    models, waiting, warned = load_models(config), [], []
    segmenter, refiner, _ = models
    meant = (jobs.meant_for(refiner, "labels" in one.volumes) for one in opened)
    for line in dict.fromkeys(jobs.thresholds_of(config, one)[1] for one in meant):
        print(line, flush=True)
    for one in opened:
        with opening.one_of_several(one.stem, failed, several):
            summary = refine_one(config, one, models)
        if one.stem in failed:
            continue
        if summary is None:
            waiting.append(one.stem)
            continue
        warned += [one.stem] * bool(summary.get("warnings"))
        stem, share, changed = one.stem, summary["hidden_share"], summary["changed_voxels"] / summary["voxels"]
        where = "every voxel open to the refiner" if summary.get("everywhere") else f"{share:.2%} of the voxels hidden"
        if "within" in summary:
            where = f"{summary['within']['inside_share']:.2%} of the volume worked on; of this {where}"
        print(f"{stem}: {where}, {changed:.2%} relabelled; see {config.output}/{stem}.json")
        for name, found in summary["witness"]["near_hidden"].items() if one.witness else ():
            print(f"{stem}: {name} outlines against the stain, near hidden tokens: AUROC {found['auroc']}")
    if several and warned:
        print(f"warned of: {', '.join(warned)}; the warnings are in their sidecars and in the report")
    # Of several parts, one that has nothing finished has nothing to tell; what others still do stands in the page.
    if config.report and len(waiting) < len(opened):
        write_report(config, opened, segmenter, refiner, failed)
    return waiting


def refine_one(config, one: Opened, models: tuple) -> dict | None:
    """The summary of one refined volume, None while other parts of it are missing: `refining.refine_volume` says what
    refining is. models: as of `load_models`.
    """
    from maeref_jax.audit import stain
    from maeref_jax.commands import by_workers
    from maeref_jax.pipeline import jobs, refining
    from maeref_jax.results.place import Output

    segmenter, refiner, settings = models
    job = job_of(one, config)
    refine = functools.partial(by_workers.refine_volume, config=config) if config.workers else refining.refine_volume
    summary = refine(job, *models)
    if summary is None or one.witness is None:
        return summary
    foreground = jobs.object_rules(jobs.scheme_of(segmenter, refiner, settings.classes), settings).classes
    distances = (config.witness_distance_vx, config.witness_reach_vx)
    return stain.score_finished(Output(job.output, job.stem), summary, one.witness, foreground, *distances)


def write_report(config, opened: list[Opened], segmenter, refiner, failed: dict[str, str]) -> None:
    """report.html of the output folder."""
    from maeref_jax import __version__
    from maeref_jax.pipeline import jobs
    from maeref_jax.report.refined_volumes import write_page

    models = {"members": segmenter.settings.get("members") if segmenter else None}
    models |= {"parameters": jobs.parameters(refiner) if refiner else None}
    images, scheme = (
        {one.stem: one.volumes.get("image") for one in opened},
        jobs.scheme_of(segmenter, refiner, config.classes),
    )
    path = write_page(Path(config.output), images, failed, scheme, models, {"maeref_jax": __version__})
    print(f"pictures and tables: {path}") if path else None


def suggest_threshold(config, opened: list[Opened]) -> None:
    from maeref_jax.commands import suggestion

    suggestion.suggest_threshold([job_of(one, config) for one in opened], config)


def tell_plans(config, opened: list[Opened], failed: dict[str, str], several: bool) -> None:
    from maeref_jax.commands import plan

    plan.tell_plans([job_of(one, config) for one in opened], config, failed, several)


def serve(config, opened: list[Opened]) -> None:
    from maeref_jax.commands import by_workers, load_models

    for one in opened:  # one, or none that could be opened, which has been said
        by_workers.serve(job_of(one, config), *load_models.load_models(config))


def job_of(one: Opened, config):
    from maeref_jax.pipeline.jobs import Job

    return Job(one.stem, Path(config.output), doubts=one.doubts, typed=config.typed, **one.volumes)
