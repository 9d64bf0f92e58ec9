"""Visible tokens beside hidden ones, hidden as a test and asked back: does the refiner know what is known already?"""

import dataclasses

import numpy as np

from maeref_jax.audit import trust
from maeref_jax.pipeline.blockwise import refine_block
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.windows import Box


def tested_volume(run, volumes: dict[str, Volume], size: int = 1) -> Volume:
    """trust.tested_volume of what a passes.Run works on. volumes: "hidden" and "labels", as of `refine_block`."""
    labels = volumes["labels"]

    def known(box):
        return np.where(run.inside(box), labels.read(box), np.int16(-1))

    inside = dataclasses.replace(labels, _read=known)
    return trust.tested_volume(volumes["hidden"], inside, run.settings.token, size)


def asked_back(apply, variables, key, volumes, tested: Volume, box: Box, batch: int):
    """Visible tokens of `box` hidden too and filled in, every slice by itself: bool (z, y, x) where known labels were
    asked back, the labels int16 there, what was filled in, and the number of windows that took.

    variables, volumes: as of `refine_block`; tested: bool, the tokens to ask for.
    """

    def both(box):
        return volumes["hidden"].read(box) | tested.read(box)

    hidden = Volume("hidden", volumes["hidden"].shape, np.dtype(bool), None, None, None, both)
    filled, _, windows, _ = refine_block(apply, variables, key, volumes | {"hidden": hidden}, box, batch)
    labels = volumes["labels"].read(box)
    return tested.read(box) & (labels >= 0), labels, filled, windows


def tested(run, variables, key, volumes, box: Box) -> np.ndarray:
    """uint8 (z, y, x) as stored: of what was asked for, 1 what the refiner of a run filled in rightly, 2 wrongly."""
    inside = run.inside(box)
    if not inside.any():
        return np.zeros(box.shape, np.uint8)
    chosen = tested_volume(run, volumes)
    given = run.refiner.apply, variables, key, volumes, chosen, box, run.settings.batch
    asked, labels, filled, _ = asked_back(*given)
    return np.where(asked & inside, 1 + (filled != labels), 0).astype(np.uint8)
