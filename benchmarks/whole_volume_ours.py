"""Our side of whole_volume.py: what refine.py does with a workdir, of a model with random weights."""

import numpy as np
from flax.traverse_util import unflatten_dict

from maeref_jax.pipeline import jobs, refining
from maeref_jax.refiners import mae
from maeref_jax.segmenters import ensemble
from maeref_jax.training.workdir import keep_compiled
from maeref_jax.volumes.volume import open_volume

SETTINGS = jobs.Settings(threshold=0.4, ambiguous_threshold=1.0)


def segment(folder, output, settings, weights):
    keep_compiled(folder)
    state = {"intensity_range": np.array([0, 255], np.float32)}
    params = unflatten_dict(weights, sep="/")
    model = jobs.Model("untrained", "ensemble", settings, params, state, ensemble.segmenter(settings), {})
    job = jobs.Job("it", output, image=open_volume(folder / "image.tif"))
    refining.refine_volume(job, model, None, SETTINGS, lambda text: None)


def refine(folder, output, settings, weights):
    keep_compiled(folder)
    params = unflatten_dict(weights, sep="/")
    model = jobs.Model("untrained", "mae", settings, params, {}, mae.refiner(settings), {})
    job = {name: open_volume(folder / f"{name}.tif") for name in ("labels", "entropy")}
    refining.refine_volume(jobs.Job("it", output, **job), None, model, SETTINGS, lambda text: None)
