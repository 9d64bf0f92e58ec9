"""Segmenting by windows around single voxels: each by itself, every few with interpolation, or dense, where neighbours
share the convolutions. What that changes, and how many voxels a second it gains.

    python benchmarks/dense_patches.py --workdir runs/clicks [--seed 20] [--slices 2] [--side 96]
    python benchmarks/dense_patches.py --config sparse_labels

A workdir is asked for slices of a phantom that it has not seen. Agreement is the share of voxels with the label that
they get by themselves, change the mean absolute change of a probability; Dice is of the truth, the mean over the
classes but background. "in tiles" is dense as maeref refine does it, in overlapping tiles that are blended. A config
has random weights, which are good for speed alone; by themselves are then only some voxels. Seconds are those of the
processor, all cores together: on a machine that is shared, a clock on the wall would tell of the others.
"""

import argparse
import sys
import time
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import measuring

from maeref_jax.commands import command_line
from maeref_jax.metrics import overlap
from maeref_jax.models import sliding
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import blockwise, methods
from maeref_jax.pipeline.shown import seen_by
from maeref_jax.segmenters import sparse_labels
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

STRIDES = (2, 4, 8)
SPARSE = 28  # of a config, every so many voxels are asked by themselves


def main():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--workdir")
    flags.add_argument("--config", default="sparse_labels:demo")
    flags.add_argument("--seed", type=int, default=20)
    flags.add_argument("--slices", type=int, default=2)
    flags.add_argument("--side", type=int, default=96)
    given = flags.parse_args()
    changes(given) if given.workdir else speed(given)


def changes(given):
    """Every way on slices of a phantom, by a trained workdir."""
    model = methods.load_model(given.workdir, "segmenter")
    size, names = tuple(model.settings["voxel_size_nm"]), model.settings["classes"]["names"]
    made = phantom(given.seed, (24, given.side, given.side), size)
    chosen = np.linspace(0, 23, given.slices + 2).astype(int)[1:-1]
    image, truth = array_volume(made.image[chosen], "phantom", size), made.labels[chosen]
    shown = seen_by(model, image).read(whole(image.shape)).astype(np.float32)
    variables, rows, alone = jax.device_put((model.params, model.state)), [], None
    for name, settings in ways(model.settings, (given.side, given.side)):
        program = jax.jit(sparse_labels.segmenter(settings).predict).lower(*variables, shown[:1]).compile()

        def whole_planes(program=program):
            return np.stack([np.asarray(program(*variables, plane[None])).mean(0)[0] for plane in shown])

        alone = row(rows, name, whole_planes, truth, names, alone)

    def in_tiles():
        return blockwise.segment_block(model.apply, variables, None, seen_by(model, image), whole(image.shape), 1)[0]

    in_tiles()  # compiles
    row(rows, f"in tiles of {model.apply.window[-1]}", in_tiles, truth, names, alone)
    measuring.report("dense_patches", ("windows", "voxels/s", "times", "agreement", "change", "Dice", "gained"), rows)


def row(rows, name, predict, truth, names, alone):
    """Adds what a way gives and takes to the rows; returns the probabilities by which the others are judged."""
    seconds, found = timed(predict)
    alone = found if alone is None else alone
    rate, classes = truth.size / seconds, range(1, len(names))

    def dice(probabilities):
        return float(overlap.macro_dice(overlap.confusion(truth, probabilities.argmax(-1), len(names)), classes))

    agreement = float((found.argmax(-1) == alone.argmax(-1)).mean())
    quality = (agreement, float(np.abs(found - alone).mean()), dice(found), dice(found) - dice(alone))
    rows.append((name, rate, rate / (rows[0][1] if rows else rate), *quality))
    print(*rows[-1], flush=True)
    return alone


def speed(given):
    """Each voxel by itself and dense, of a config's networks as they are initialised."""
    settings = command_line.load_config(given.config).to_dict() | {"members": 1}
    tile = settings["use"]["tile"]
    net, rng = sparse_labels.network(settings), np.random.default_rng(0)
    nothing = tuple(np.zeros((1, *shape), np.float32) for shape in net.latent_shapes())
    x = rng.normal(size=(1, *tile)).astype(np.float32)
    shapes = jax.eval_shape(net.init, jax.random.key(0), np.zeros((1, *settings["window"], 1)), nothing)
    made = jax.tree.map(lambda leaf: rng.normal(0, 0.05, (1, *leaf.shape)).astype(np.float32) ** 2, shapes)
    state = {"batch_stats": made["batch_stats"], "grey": np.array([0, 1], np.float32)}
    rows = []
    for name, stride, dense in (("each by itself", SPARSE, False), ("dense", 1, True)):
        way = with_way(settings, stride, dense, tile)
        program = jax.jit(sparse_labels.segmenter(way).predict).lower(made["params"], state, x).compile()
        seconds, _ = timed(lambda program=program: np.asarray(program(made["params"], state, x)))
        asked = np.prod([-(-(side - 1) // stride) + 1 for side in tile])
        if not dense:  # windows are computed so many at a time
            asked = -(-asked // sliding.AT_ONCE) * sliding.AT_ONCE
        rows.append((name, float(asked / seconds), float(asked / seconds) / (rows[0][1] if rows else asked / seconds)))
        print(*rows[-1], flush=True)
    measuring.report("dense_patches_speed", ("windows", "voxels/s", "times"), rows)


def ways(settings, plane):
    """(name, settings) of every way, of a plane at once."""
    yield "each by itself", with_way(settings, 1, False, plane)
    for stride in STRIDES:
        yield f"every {stride}", with_way(settings, stride, False, plane)
    yield "dense", with_way(settings, 1, True, plane)


def with_way(settings, stride, dense, tile):
    return {
        **settings,
        "stride": (stride,) * len(settings["window"]),
        "use": {"dense": dense, "tile": tile, "symmetries": False},
    }


def timed(call):
    """(processor seconds, result) of a call that compiles nothing."""
    began = time.process_time()
    found = call()
    return time.process_time() - began, found


if __name__ == "__main__":
    main()
