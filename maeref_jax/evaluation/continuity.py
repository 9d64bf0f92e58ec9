"""Few labelled slices (EVALUATION E16): what each stage of configs/spatial_continuity.py adds, for several numbers of
labelled slices, on stacks that no model has seen.

Workdirs are found by their places in one folder, for every number of labelled slices N: N, the chain; N_plain, its
first stage without the bending of slices; N_mae, a masked autoencoder. What is not there is left out of the tables.
"""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import cases, openings_log, summary
from maeref_jax.evaluation.contestants import without_ambiguous
from maeref_jax.evaluation.page import described, training_seconds, versions
from maeref_jax.masking import continuity
from maeref_jax.metrics import boundaries, instances, overlap
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.report.canvas import Key, Panel, compose, grey_image
from maeref_jax.report.page import Picture, html_page
from maeref_jax.report.panels import AGREEMENT_COLOURS, show_agreement
from maeref_jax.training.workdir import flat, make_workdir, read_config, write_text
from maeref_jax.volumes.volume import array_volume, labels_from_disk
from maeref_jax.volumes.windows import Box, whole

PLAIN, AFFINE = "U-Net", "+ affine, piecewise affine"
MORPHOLOGY, NETWORK, AUTOENCODER = "+ morphology along z", "+ network", "+ masked autoencoder"
ROWS = (PLAIN, AFFINE, MORPHOLOGY, NETWORK, AUTOENCODER)
TOLERANCE_NM = 20.0  # of boundaries


class Counts(NamedTuple):
    """Of the foreground of one volume, or of several: they add up, but for `objects` of volumes that touch.

    confusion: int64 (2, 2), row truth; slices: its Dice in every slice that has any, in truth or prediction; edges:
    boundaries.BoundaryCounts; objects: of instances.splits_and_merges.
    """

    confusion: np.ndarray
    slices: tuple[float, ...]
    edges: boundaries.BoundaryCounts
    objects: dict[str, int]


def judge(settings, workdir):
    """Predict every stack in every way, count against the truth, print the tables and write the page."""
    began, asked = time.monotonic(), settings["continuity"]
    cases.check(settings)
    columns = {number: models_of(Path(asked["folder"]), number) for number in asked["columns"]}
    columns = {number: found for number, found in columns.items() if found}
    if not columns:
        raise BadInput(f"no workdir of any of {', '.join(asked['columns'])} labelled slices in {asked['folder']}")
    models = {f"{number} {name}": model for number, found in columns.items() for name, model in found.items()}
    cases.check_held_out(settings, models.values())
    scheme = jobs.scheme_of(next(iter(models.values())), None, settings["classes"])
    given = cases.cases(settings, scheme, workdir / "held_out")
    if unsized := [case.stem for case in given if case.voxel_size_nm is None]:
        raise BadInput(
            f"{unsized[0]}: boundaries are compared within {TOLERANCE_NM:g} nm, but no file says how large a voxel is; "
            "give --voxel_size_nm Z,Y,X"
        )
    make_workdir(workdir)
    with openings_log.opened(workdir, [c.stem for c in given], {name: one.workdir for name, one in models.items()}):
        counted, maps = {}, {}
        for case in given:
            for number, found in columns.items():
                print(f"{case.stem}, shape {case.truth.shape}, {number} labelled slices", flush=True)
                maps[case.stem, number] = predictions(case, found, workdir / "held_out" / number, settings)
                for row, labels in maps[case.stem, number].items():
                    counted[case.stem, number, row] = count(
                        case.truth, labels, case.voxel_size_nm, asked["smallest_vx"]
                    )
        tables = [table for case in given for table in _tables(case.stem, counted, columns, settings, models)]
        pictures = [_picture(case, maps, asked) for case in given]
        write_text(workdir / "tables.txt", "\n\n".join(map(report.text_table, tables)) + "\n")
        numbers = {f"{stem}, {number}, {row}": _numbers(one) for (stem, number, row), one in counted.items()}
        numbers["seconds"] = round(time.monotonic() - began, 1)
        summary.write(workdir / "summary.json", numbers)
        for case, picture in zip(given, pictures, strict=True):
            (workdir / f"{case.stem}.png").write_bytes(picture.png)
        page = html_page(
            title="Few labelled slices, judged by the truth",
            lead=[],
            pictures=pictures,
            tables=tables,
            classes=without_ambiguous(scheme),
            facts={
                "Held-out volumes": {case.stem: described(case) for case in given},
                "Models": {name: model.workdir for name, model in models.items()},
                "Evaluation settings": flat(settings),
                "Versions": versions(),
            },
        )
        write_text(workdir / "report.html", page)
        print("\n" + "\n\n".join(map(report.text_table, tables)))
        print(f"\nPictures and tables: {workdir / 'report.html'}")


def models_of(folder, number):
    """{row of ROWS: Model} of what `folder` holds for a number of labelled slices; {} for nothing. MORPHOLOGY learns
    nothing: it stands with the U-Net whose masks it works on.
    """
    places = {
        PLAIN: (folder / f"{number}_plain" / "segmenter", "segmenter"),
        AFFINE: (folder / number / "segmenter", "segmenter"),
        NETWORK: (folder / number / "refiner", "refiner"),
        AUTOENCODER: (folder / f"{number}_mae", "refiner"),
    }
    return {
        row: methods.load_model(place, kind)
        for row, (place, kind) in places.items()
        if (place / "summary.json").exists()  # its training has ended
    }


def predictions(case, models, output, settings):
    """{row: labels int16 (z, y, x)} of a Case, each row working on what the one before gives."""
    found, entropy = {}, None
    for row, name in ((PLAIN, "plain"), (AFFINE, "affine")):
        if row in models:
            done = _run(case, output / name, settings, ("initial", "entropy"), models[row], None, image=True)
            found[row], entropy = labels_from_disk(done[0]), done[1]
    if AFFINE not in models:
        return found
    chain = read_config(Path(models[AFFINE].workdir).parent)["config"]
    rules = continuity.rules_of(case.voxel_size_nm, **chain["morphology"])
    found[MORPHOLOGY] = continuity.continued(found[AFFINE], (), len(chain["classes"]["names"]), rules)
    if NETWORK in models:
        both = models[AFFINE], models[NETWORK]
        (done,) = _run(case, output / "network", settings, ("refined",), *both, image=True)
        found[NETWORK] = labels_from_disk(done)
    if AUTOENCODER in models:
        best = found.get(NETWORK, found[MORPHOLOGY])
        given = {"labels": array_volume(best, f"{case.stem}_labels", case.voxel_size_nm)}
        given["entropy"] = array_volume(entropy, f"{case.stem}_entropy", case.voxel_size_nm)
        (done,) = _run(case, output / "mae", settings, ("refined",), None, models[AUTOENCODER], **given)
        found[AUTOENCODER] = labels_from_disk(done)
    return found


def count(truth, labels, voxel_size_nm, smallest_vx):
    """The Counts of one volume; truth and labels int (z, y, x), truth -1 unknown. No slice divides by nothing: those
    without foreground in both have no Dice.
    """
    truth = np.minimum(truth, 1)
    labels = np.where(truth < 0, 0, np.minimum(labels, 1))
    confusions = [overlap.confusion(*pair, 2) for pair in zip(truth, labels, strict=True)]
    slices = [overlap.dice(confusion)[1] for confusion in confusions]
    edges = boundaries.count_planes(truth, labels, 2, TOLERANCE_NM, None, voxel_size_nm)
    objects = instances.splits_and_merges(instances.of(truth), instances.of(labels), smallest_vx)
    return Counts(sum(confusions), tuple(float(dice) for dice in slices if not np.isnan(dice)), edges, objects)


def _run(case, output, settings, roles, segmenter, refiner, image=False, **given):
    """Arrays of one pass of the pipeline, as stored."""
    given |= {"image": case.inputs["image"]} if image else {}
    asked = jobs.Settings(**settings["refine"], tiff_export=False)
    refining.refine_volume(jobs.Job(case.stem, output, **given), segmenter, refiner, asked, lambda text: None)
    return [refining.open_result(output, case.stem, role).read(whole(case.truth.shape)) for role in roles]


def _tables(stem, counted, columns, settings, models):
    """The report.Tables of one volume: IoU and Dice by number of labelled slices, then everything of each number."""
    asked, scores = settings["continuity"], {}
    for row in ROWS:
        cells = []
        for number in asked["columns"]:
            one = counted.get((stem, number, row))
            cells.append("-" if one is None else "{dice:.1f} / {iou:.1f}".format(**_percent(one)))
        scores[row] = (row, *cells, asked["published"].get(row, "-"))
    header = ("Dice / IoU of the foreground, %", *(f"{n} labelled" for n in asked["columns"]), "published, 32 labelled")
    extra = [
        (row, *("-",) * len(asked["columns"]), cell) for row, cell in asked["published"].items() if row not in ROWS
    ]
    first = report.Table(f"Few labelled slices: {stem}", header, (*scores.values(), *extra), (), _note(models))
    return [first, *(_details(stem, number, counted, settings) for number in columns)]


def _details(stem, number, counted, settings):
    rows = []
    for row in ROWS:
        one = counted.get((stem, number, row))
        if one is None:
            continue
        percent, slices, objects = _percent(one), 100 * np.array(one.slices or (np.nan,)), one.objects
        f1 = report.number(100 * float(boundaries.f1(one.edges)[1]), 1)
        spread = f"{report.number(slices.mean(), 1)} ± {report.number(slices.std(), 1)}"
        numbers = (f"{objects[name]}" for name in ("found", "missed", "split", "merged"))
        rows.append((row, f"{percent['dice']:.1f}", f"{percent['iou']:.1f}", spread, f1, *numbers))
    header = ("foreground", "Dice, %", "IoU, %", "Dice of a slice", "boundary F1, %", "objects", "missed")
    header += ("split", "merged")
    true = next(one.objects["true"] for (s, n, _), one in counted.items() if (s, n) == (stem, number))
    smallest = settings["continuity"]["smallest_vx"]
    note = (
        f"Dice and IoU over all voxels of the volume; mean ± standard deviation over slices; boundary F1 in the plane "
        f"at {TOLERANCE_NM:g} nm. {true} true objects of {smallest} voxels or more: missed, in pieces; merged: found "
        "objects that hold several."
    )
    return report.Table(f"{number} labelled slices: {stem}", header, tuple(rows), (), note)


def _note(models):
    took = {name: training_seconds(model.workdir) for name, model in models.items()}
    devices = {_device(model) for model in models.values()}
    seeds = {str(model.settings.get("seed")) for model in models.values()}
    thresholds = {
        name: model.settings["use"]["foreground_threshold"]
        for name, model in models.items()
        if model.name in methods.SEGMENTERS
    }
    said = "; ".join(f"{name} {seconds:,.0f}" for name, seconds in took.items() if seconds is not None)
    chosen = "; ".join(f"{name} {value:g}" for name, value in thresholds.items())
    return (
        f"Seed {', '.join(sorted(seeds))}, trained on {', '.join(sorted(devices))}, judged on "
        f"{datetime.now(UTC):%Y-%m-%d}. Seconds of the last start of each training: {said}. Thresholds of foreground, "
        f"chosen on validation slices: {chosen}. Published: arXiv 2206.02392, test stack, full resolution."
    )


def _device(model):
    path = Path(model.workdir) / "summary.json"
    return json.loads(path.read_text(encoding="utf-8")).get("device", "an unknown device")


def _percent(one):
    return {
        name: 100 * float(score(one.confusion)[1]) for name, score in (("dice", overlap.dice), ("iou", overlap.iou))
    }


def _numbers(one):
    """Of one Counts, for summary.json."""
    found = {name: round(value, 3) for name, value in _percent(one).items()}
    return found | {"confusion": one.confusion.tolist(), **one.objects}


def _picture(case, maps, asked):
    """Three slices of a Case in AGREEMENT_COLOURS, one row each, one column for every map."""
    number = next(n for n in (asked["pictured"], *asked["columns"]) if (case.stem, n) in maps)
    shown, rows = maps[case.stem, number], []
    depth, *sides = case.truth.shape
    for z in sorted({depth * part // 6 for part in (1, 3, 5)}):
        plane = case.inputs["image"].read(Box((z, 0, 0), (z + 1, *sides)))[0]
        row = [Panel(f"slice {z}", grey_image(plane), nm_per_pixel=case.voxel_size_nm and case.voxel_size_nm[2])]
        row += [Panel(name, show_agreement(case.truth[z], labels[z])) for name, labels in shown.items()]
        rows.append(row)
    keys = [Key(name, colour) for name, colour in AGREEMENT_COLOURS.items()]
    return Picture(compose(rows, keys), f"{case.stem}, {number} labelled slices: foreground against the truth.")
