"""Masks of tissue (EVALUATION E18), from the config of evaluate.py to the page: tissue that is lost first, then what is
taken for tissue and is none, then how much is left to work on.

Sizes, threshold and growth of every method are chosen on validation blocks. Then the test is opened, which openings.log
remembers.
"""

import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import openings_log, summary, tissue_blocks, tissue_masks, tissue_methods
from maeref_jax.evaluation.page import training_seconds, versions, write_pictures
from maeref_jax.pipeline import methods
from maeref_jax.report.canvas import Key, Panel, compose, enlarged, grey_image, outlined, scale_for
from maeref_jax.report.page import Picture, html_page
from maeref_jax.results.maps import HIDDEN_COLOUR
from maeref_jax.training.workdir import flat, make_workdir, write_text

TRUTH_COLOUR, MASK_COLOUR = (0, 190, 255), HIDDEN_COLOUR


def judge(settings, workdir):
    """Choose on validation blocks, open the test, print the tables and write the page with pictures."""
    asked, began = settings["tissue"], time.monotonic()
    rows = methods_of(asked)
    models = {row: method.model for row, method in rows.items() if method.model}
    tissue_blocks.check(asked, models.values())
    validation = [
        block for group in asked["validation"].values() for block in tissue_blocks.made(group, "validation", asked)
    ]
    chosen, rules = {}, tissue_masks.Rules(**asked["cleaning"])
    for row, method in rows.items():
        print(f"choosing by {len(validation)} validation blocks: {row}", flush=True)
        scored = {
            sizes: [(block.tissue, method.score(block, sizes).score) for block in validation] for sizes in method.sizes
        }
        size = validation[0].voxel_size_nm
        chosen[row] = tissue_masks.choose(scored, method.probability, rules, size)
        if method.probability and len(method.sizes) == 1:
            only = method.sizes[0]
            chosen[row]["as it comes"] = tissue_masks.as_it_comes(scored[only], only, rules, size)
    make_workdir(workdir)
    stems = [f"{one} ({name})" for name, group in asked["test"].items() for one in tissue_blocks.names(group)]
    with openings_log.opened(workdir, stems, {row: model.workdir for row, model in models.items()}):
        order = [name for _, groups in asked["tables"] for name in groups]
        found = {name: _of_group(name, asked["test"][name], asked, rows, chosen) for name in order}
        tables = _tables(asked, rows, chosen, found, settings["seed"])
        pictures = [picture for one in found.values() for picture in one["pictures"]]
        _write(workdir, tables, pictures, found, chosen, settings, models, time.monotonic() - began)


def methods_of(asked):
    """{row: tissue_methods.Method} of `tissue` of a config: texture's votes, single features, networks."""
    rows = {}
    for row, (votes, sizes) in asked["texture"].items():
        rows[row] = tissue_methods.votes(votes, sizes)
    for row, (name, sizes) in asked["features"].items():
        rows[row] = tissue_methods.feature(name, sizes)
    for row, workdir in asked["networks"].items():
        if not workdir:
            continue
        if not (Path(workdir) / "config.json").exists():
            raise BadInput(
                f"tissue.networks: there is no model in {workdir}; train it (configs/tissue.py), name another one, or "
                f"leave it out: --config.tissue.networks.{row}="
            )
        rows[row] = tissue_methods.network(methods.load_model(workdir, "segmenter"))
    return rows


def _of_group(name, group, asked, rows, chosen):
    """{"counts": {(row, kind of mask): (2, 2)}, "warned": {row: blocks}, "seconds": {row: per million voxels},
    "blocks": how many, "pictures"} of one group of test blocks.
    """
    print(f"judging: {name}", flush=True)
    blocks, rules = tissue_blocks.made(group, "test", asked), tissue_masks.Rules(**asked["cleaning"])
    counted, warned, seconds, pictures = {}, dict.fromkeys(rows, 0), dict.fromkeys(rows, 0.0), []
    for block in blocks:
        safe = {}
        for row, method in rows.items():
            scores = {choice.sizes: None for choice in chosen[row].values()}
            scores = {sizes: method.score(block, sizes) for sizes in scores}
            for kind, choice in chosen[row].items():
                mask = tissue_masks.mask_of(scores[choice.sizes].score, choice, rules, block.voxel_size_nm)
                safe |= {row: mask} if kind == "safe" else {}
                counted[row, kind] = counted.get((row, kind), 0) + tissue_masks.counts(block.tissue, mask)
            warned[row] += any(one.doubts for one in scores.values())
            each = 1e6 / block.tissue.size / len(blocks) / len(scores)
            seconds[row] += each * sum(one.seconds for one in scores.values())
        if name in asked["pictured"] and not pictures:
            pictures.append(picture(name, block, safe))
    return {"counts": counted, "warned": warned, "seconds": seconds, "blocks": len(blocks), "pictures": pictures}


def picture(name, block, masks):
    """Slices in three directions through the middle of a TissueBlock, one row each: the image with the truth outlined,
    then with the mask of every method. masks: {row: bool (z, y, x)}.
    """
    rows, columns = [], 1 + len(masks)
    by = scale_for(max(block.image.shape), columns)
    for axis, across in enumerate(("across z", "across y", "across x")):
        at = block.image.shape[axis] // 2
        plane = enlarged(grey_image(block.image.take(at, axis), block.image), by)
        shown = [(f"{across}: truth", block.tissue > 0, TRUTH_COLOUR)]
        # A mask of everything has no outline, as one of nothing has none.
        shown += [(f"{row}: {mask.mean():.0%} of all voxels", mask, MASK_COLOUR) for row, mask in masks.items()]
        rows.append(
            [
                Panel(
                    title if axis == 0 or number == 0 else "",
                    outlined(plane.copy(), mask.take(at, axis), by, colour),
                    by,
                    nm_per_pixel=block.voxel_size_nm[2] / by if number == 0 else None,
                )
                for number, (title, mask, colour) in enumerate(shown)
            ]
        )
    keys = [Key("tissue, by the truth", TRUTH_COLOUR, "line"), Key("the safe mask", MASK_COLOUR, "line")]
    return Picture(compose(rows, keys), f"{name}: outlines on slices in three directions.")


def _tables(asked, rows, chosen, found, seed):
    """The report.Tables: one for each of `tables` of the config, then what was chosen, warnings and time."""
    note = (
        "Every cell: Dice of tissue · share of the tissue that the mask has (recall) · share of what is no tissue that "
        "it has (false), in %, pooled over the blocks of a column. The closest mask has the highest Dice on validation "
        "blocks, not grown; the safe one the highest of those with a recall of "
        f"{100 * tissue_masks.RECALL:g} % there. As it comes: what maeref tissue makes, nothing chosen. Light "
        f"clean-up: what is thinner than {2 * asked['cleaning']['open_nm']:g} nm or smaller than "
        f"{asked['cleaning']['smallest_um3']:g} cubic micrometres goes, holes are filled. Seed {seed}, "
        f"{datetime.now(UTC):%Y-%m-%d}."
    )
    tables = []
    for title, groups in asked["tables"]:
        header = ("Dice · recall · false, %", *(f"{name} ({found[name]['blocks']})" for name in groups))
        body = []
        for kind in tissue_masks.KINDS:
            of = [row for row in rows if kind in chosen[row]]
            body += [(f"{row}, {kind}", *(_cell(found[name]["counts"][row, kind]) for name in groups)) for row in of]
        tables.append(report.Table(title, header, tuple(body), (), note))
    header = ("of all voxels, %", *found)
    body = [("truly tissue", *(_percent(_truth(one["counts"])) for one in found.values()))]
    body += [
        (row, *(_percent(tissue_masks.kept(one["counts"][row, "safe"])) for one in found.values())) for row in rows
    ]
    tables.append(report.Table("What is left to work on, safe mask", header, tuple(body)))
    header = ("blocks of which a user is warned", *found)
    body = [(row, *(f"{one['warned'][row]} of {one['blocks']}" for one in found.values())) for row in rows]
    tables.append(report.Table("Is a user told that the mask may be wrong?", header, tuple(body)))
    tables.append(_of_choices(rows, chosen, found))
    return tables


def _of_choices(rows, chosen, found):
    """What was chosen, how good it was on validation blocks, and what it takes."""
    body = []
    for row, method in rows.items():
        seconds = np.mean([one["seconds"][row] for one in found.values()])
        trained = training_seconds(method.model.workdir) if method.model else None
        for kind, one in chosen[row].items():
            sizes = " / ".join(f"{size:g}" for size in one.sizes) if one.sizes else "-"
            trained_for = "-" if trained is None else f"{trained:,.0f}"
            made = "usual" if one.cleaning == "usual" else f"{one.cleaning}, {one.grown_nm:g} nm"
            cells = (sizes, f"{one.threshold:.3g}", made, _cell(one.counted), f"{seconds:.1f}")
            body.append((f"{row}, {kind}", *cells, trained_for))
    header = ("", "window / texture / edge, nm", "threshold", "clean-up, grown", "on validation", "s a million voxels")
    return report.Table("What was chosen on validation blocks", (*header, "s of training"), tuple(body))


def _cell(counted):
    scores = (tissue_masks.dice, tissue_masks.recall, tissue_masks.false_share)
    return " · ".join(_percent(score(counted)) for score in scores)


def _percent(share):
    return report.number(100 * share, 1)


def _truth(counted):
    one = next(iter(counted.values()))
    return float(one[1].sum() / one.sum())


def _write(workdir, tables, pictures, found, chosen, settings, models, seconds):
    text = "\n\n".join(map(report.text_table, tables))
    write_text(workdir / "tables.txt", text + "\n")
    numbers = {
        f"{name}, {row}, {kind}": {"voxels": one.tolist(), "dice": round(tissue_masks.dice(one), 5)}
        for name, group in found.items()
        for (row, kind), one in group["counts"].items()
    }
    numbers["chosen"] = {
        f"{row}, {kind}": {name: value for name, value in one._asdict().items() if name != "counted"}
        for row, choices in chosen.items()
        for kind, one in choices.items()
    }
    numbers["seconds"] = round(seconds, 1)
    summary.write(workdir / "summary.json", numbers)
    write_pictures(workdir, [one.png for one in pictures])
    page = html_page(
        title="Masks of tissue, judged by the truth",
        lead=[],
        pictures=pictures,
        tables=tables,
        classes={"names": (), "colours": ()},
        outline="the safe mask (outline)",
        facts={
            "Models": {row: model.workdir for row, model in models.items()},
            "Evaluation settings": flat(settings),
            "Versions": versions(),
        },
    )
    write_text(workdir / "report.html", page)
    print("\n" + text)
    print(f"\nPictures and tables: {workdir / 'report.html'}")
