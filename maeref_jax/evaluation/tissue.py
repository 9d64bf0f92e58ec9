"""Masks of tissue (EVALUATION E18), from the config of evaluate.py to the page: tissue that is lost first, then what is
taken for tissue and is none, then how much work is left.

Lengths, threshold and growth of every method are chosen on validation blocks; then the test is opened, which
openings.log remembers.
"""

import json
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.errors import BadInput
from maeref_jax.evaluation import openings_log, tissue_blocks, tissue_masks
from maeref_jax.evaluation.page import versions
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.blockwise import segment_block
from maeref_jax.pipeline.shown import doubts_about_image, seen_by
from maeref_jax.report.canvas import Key, Panel, compose, enlarged, grey_image, outlined, scale_for
from maeref_jax.report.page import Picture, html_page
from maeref_jax.segmenters import texture
from maeref_jax.training.workdir import flat, make_workdir, write_text
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

LEARNED = "learned"
TRUTH_COLOUR, COLOURS = (255, 255, 255), ((255, 120, 0), (0, 170, 255), (240, 220, 0), (255, 0, 170))


class Found(NamedTuple):
    """Of one method and one block: probability of tissue float32 (z, y, x); what a user is warned of; seconds."""

    probability: np.ndarray
    doubts: tuple[str, ...]
    seconds: float


def judge(settings, workdir):
    """Choose on validation blocks, open the test, print the tables and write the page with pictures."""
    asked, began = settings["tissue"], time.monotonic()
    rows = _rows(asked, workdir)
    tissue_blocks.check(asked, [model for model in rows.values() if not isinstance(model, dict)])
    chosen = {}
    validation = [block for group in asked["validation"].values() for block in tissue_blocks.made(group, "validation", asked)]
    for row, method in rows.items():
        print(f"choosing on {len(validation)} validation blocks: {row}", flush=True)
        lengths = asked["lengths"] if isinstance(method, dict) else (1.0,)
        shares = {
            length: [(block.tissue, found(method, block, length, row).probability) for block in validation]
            for length in lengths
        }
        chosen[row] = tissue_masks.choose(shares, lengths, _grow)
    make_workdir(workdir)
    opened = [f"{name} {one}" for name, group in asked["test"].items() for one in tissue_blocks.names(group)]
    openings_log.write_log(workdir, opened, {row: getattr(method, "workdir", "texture") for row, method in rows.items()})
    counted, warned, seconds, pictures = {}, {}, {row: [] for row in rows}, []
    for name, group in asked["test"].items():
        print(f"judging: {name}", flush=True)
        for number, block in enumerate(tissue_blocks.made(group, "test", asked)):
            masks = {}
            for row, method in rows.items():
                for kind, choice in chosen[row].items():
                    one = found(method, block, choice.lengths, row)
                    mask = tissue_masks.mask_of(one.probability, choice, _grow)
                    counted[name, row, kind] = counted.get((name, row, kind), 0) + tissue_masks.counts(block.tissue, mask)
                seconds[row].append(1e6 * one.seconds / block.tissue.size)
                warned[name, row] = warned.get((name, row), 0) + bool(one.doubts)
                masks[row] = mask
            if number == 0 and name in asked["pictured"]:
                pictures.append(picture(name, block, masks))
    tables = _tables(asked, rows, chosen, counted, warned, seconds, settings["seed"])
    _write(workdir, tables, pictures, counted, chosen, settings, time.monotonic() - began)


def found(method, block, lengths, row):
    """The Found of a TissueBlock. method: settings of configs/texture.py, or the jobs.Model of an ensemble; lengths:
    what the former's are multiplied by.
    """
    began = time.monotonic()
    image = array_volume(block.image, row, block.voxel_size_nm)
    everything = whole(image.shape)
    if isinstance(method, dict):
        scaled = {name: lengths * length for name, length in method["lengths"].items()}
        judge_ = texture.segmenter({**method, "lengths": scaled})
        known = judge_.statistics(image)
        members, doubts = judge_.predict(known, image, everything), known["doubts"]
        probability = members[..., 1].mean(0)
    else:
        doubts = doubts_about_image(row, image, method, None)
        means, _ = segment_block(
            method.apply, (method.params, method.state), None, seen_by(method, image), everything, 8
        )
        probability = means[..., 1]
    return Found(probability.astype(np.float32), tuple(doubts), time.monotonic() - began)
