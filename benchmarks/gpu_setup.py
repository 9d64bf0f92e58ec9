"""What the parts of gpu.py share: how much time is left, the models and their first weights, how a failure is told."""

import functools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import ensemble_speed
import jax
import mae_speed
import numpy as np

from maeref_jax.commands import command_line
from maeref_jax.pipeline import jobs, methods
from maeref_jax.report.table import Table
from maeref_jax.training.compiling import RUNS_ONCE, jitted
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import Progress, initial_state

CONFIGS = {"mae": "configs/mae.py", "ensemble": "configs/ensemble.py"}
# By name: what the networks compute in, and what their products of float32 may be rounded to.
PRECISIONS = {
    "float32": ("float32", "float32"),
    "tf32": ("float32", "tensorfloat32"),
    "bfloat16": ("bfloat16", "bfloat16"),
}
NOISES = ("contrast", "brightness", "gamma", "noise")
RATIO = 0.5  # of the tokens hidden, in all that is timed
ROOT = Path(__file__).parent.parent
_drawn = {}


class OutOfTime(Exception):
    """The minutes are over, and a part is not done."""


class Found(NamedTuple):
    """What a part gives. facts: numbers that other parts go by, as JSON."""

    tables: list[Table]
    facts: dict | None = None


class Part(NamedTuple):
    does: Callable[["Setup"], Found]
    seconds: float


class Setup(NamedTuple):
    """What the parts are given. ends: when the time is over, of time.monotonic; voxels: of a volume."""

    tiny: bool
    configs: dict[str, str]
    folder: Path
    scratch: Path
    ends: float
    voxels: float

    def left(self):
        return self.ends - time.monotonic()

    def check_time(self):
        """Raises OutOfTime."""
        if self.left() < 0:
            raise OutOfTime("the time is over")

    def sized(self, full, tiny):
        """The second one for --tiny."""
        return tiny if self.tiny else full

    def settings(self, model, precision="float32", **changes):
        """The settings of one of CONFIGS as a dict, in the given precision, changed."""
        found = command_line.load_config(str(ROOT / self.configs[model])).to_dict() | changes
        found["model"]["compute_dtype"] = PRECISIONS[precision][0]
        if self.tiny and model == "ensemble":  # what compiles in a second
            found["model"] |= {"widths": (4,), "strides": ()}
            found["augmentation"] |= {"symmetries": False, **dict.fromkeys(NOISES, 0.0)}
        return found


def precision(name):
    """A context in which products of float32 are rounded as one of PRECISIONS says."""
    return jax.default_matmul_precision(PRECISIONS[name][1])


def random_batch(settings, crops):
    """A batch of noise."""
    if settings["method"] == "mae":
        return mae_speed.random_batch(settings, crops, RATIO)
    return ensemble_speed.random_batch(settings, crops)


def step_operations(settings, batch):
    """Floating-point operations of a training step: three times those of the forward pass."""
    if settings["method"] == "mae":
        return 3 * len(batch["labels"]) * mae_speed.operations(settings, batch)
    voxels = np.prod(batch["image"].shape)  # of all members
    return 3 * int(voxels) * ensemble_speed.operations(settings)


def method_and_optimizer(settings, steps=1000):
    """Rates that move the weights from the first step on."""
    method = methods.METHODS[settings["method"]].method(settings)
    return method, build_optimizer({**settings["optimizer"], "warmup_steps": 0, "steps": steps}, method.members)


def first_state(settings, batch):
    """A fresh TrainState of numpy arrays. Of it only the weights are computed, and those once (`first_weights`)."""
    method, optimizer = method_and_optimizer(settings)
    fresh = functools.partial(initial_state, method, optimizer)
    shapes = jax.eval_shape(fresh, jax.random.key(0), batch)
    nothing = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    params, state = first_weights(settings)
    return nothing._replace(params=params, state=state, progress=Progress())


def first_weights(settings):
    """(params, state) of a model as it is drawn, numpy arrays: the same in every precision and for every batch."""
    model = {**settings["model"], "compute_dtype": "float32"}
    settings = {**settings, "model": model, "batch": 1, "member_mapping": "auto"}
    name = json.dumps(settings, default=str)
    if name not in _drawn:
        method, _ = method_and_optimizer(settings)
        _drawn[name] = jax.device_get(jitted(method.init, RUNS_ONCE)(jax.random.key(0), random_batch(settings, 1)))
    return _drawn[name]


def untrained(settings):
    """A jobs.Model as the pipeline takes it."""
    return jobs.Model("untrained", settings["method"], settings, *first_weights(settings), applied(settings), {})


def applied(settings):
    """The Segmenter or Refiner of a model."""
    module = methods.METHODS[settings["method"]]
    return module.segmenter(settings) if settings["method"] == "ensemble" else module.refiner(settings)


def attempt(name, width, call):
    """A row of a table: the name and the cells that call() gives; where it fails, why, and cells that are empty."""
    try:
        return (name, *call())
    except OutOfTime:
        raise
    except Exception as error:  # whatever a library says of what it cannot do here
        return (name, explained(error), *[""] * (width - 2))


def explained(error):
    if is_out_of_memory(error):
        return "out of memory"
    lines = str(error).strip().splitlines()
    return f"failed: {type(error).__name__}: {lines[0] if lines else ''}"[:70]


def is_out_of_memory(error):
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)


def distance(found, wanted):
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def number(value, digits=3):
    """A number of so many digits, without an exponent."""
    return f"{float(f'{value:.{digits}g}'):,g}" if abs(value) < 1e6 else f"{value:,.0f}"
