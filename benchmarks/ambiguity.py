"""How should the class "ambiguous" be taught: as a class, as unknown, or to every other member?

    python benchmarks/ambiguity.py [--steps 1200] [--seed 0] [--folder runs/ambiguity]

Trains an ensemble of configs/ensemble.py:demo in each of the three ways (config field ambiguous_as) and judges their
means on phantoms 30 and 31, which nobody trains on. Prints a row per way: Dice (mean over the foreground classes;
"ambiguous" is no answer), AUROC of entropy for error; how many voxels are hidden by entropy (threshold 0.75), by
"ambiguous" (mean probability above 0.3: both are those of configs/mae.py:demo) and by either, and which share of all
errors lies there: what a repair can reach. "alone": that the other rule does not hide.

What is done is kept in --folder, and the same command again goes on from there. About four minutes an ensemble on 2 CPU
cores. --smoke: under a minute, means nothing.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.metrics import calibration, overlap
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import methods
from maeref_jax.pipeline.blockwise import decide, hide, segment_block
from maeref_jax.segmenters.ensemble import AMBIGUOUS_AS
from maeref_jax.training.workdir import write_text
from maeref_jax.volumes.labels import real_classes
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

ROOT = Path(__file__).parent.parent
SEEDS = (30, 31)
THRESHOLD, AMBIGUOUS_THRESHOLD, TOKEN = 0.75, 0.3, 4
# Programs of seconds are not worth optimising; and four steps have to make a difference.
SMOKE_FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
SMOKE = {"model.widths": "4,8", "model.strides": "((2,2),)", "optimizer.warmup_steps": 0, "optimizer.rate": 0.1}
REGIONS = ("entropy", "ambiguous", "entropy alone", "ambiguous alone", "either")


def main():
    given = command()
    shape = (6, 64, 64) if given.smoke else (24, 256, 256)
    found = {}
    for way in AMBIGUOUS_AS:
        smoke = "smoke, " if given.smoke else ""
        workdir = given.folder.absolute() / f"{smoke}{way}, seed {given.seed}, {given.steps} steps"
        if not (workdir / "summary.json").exists():
            train(workdir, way, given)
        place = workdir / "judged.json"
        if not place.exists():
            write_text(place, json.dumps(judged(workdir, shape)))
        found[way] = json.loads(place.read_text())
    device = jax.devices()[0].device_kind
    print(f"\n{device}, jax {jax.__version__}, {given.steps} steps, seed {given.seed}, phantoms {SEEDS} of {shape}\n")
    print(table(found))


def command():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--steps", type=int, default=1200, help="of every ensemble; 4 with --smoke")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--folder", type=Path, default=Path("runs/ambiguity"))
    flags.add_argument("--smoke", action="store_true")
    given = flags.parse_args()
    if given.smoke:
        given.steps, os.environ["XLA_FLAGS"] = 4, SMOKE_FLAGS
    return given


def train(workdir, way, given):
    """The ensemble of one way; an interrupted training goes on."""
    config = f"configs/ensemble.py:{'smoke' if given.smoke else 'demo'}"
    changes = {"ambiguous_as": way, "seed": given.seed, "steps": given.steps} | (SMOKE if given.smoke else {})
    overrides = [f"--config.{name}={value}" for name, value in changes.items()]
    command = [sys.executable, "train.py", "--config", config, "--workdir", workdir, *overrides]
    subprocess.run(command, check=True, cwd=ROOT)


def judged(workdir, shape):
    """{"dice", "auroc", "hidden": {region: share of the voxels}, "caught": {region: share of the errors}}."""
    model = methods.load_model(workdir, "segmenter")
    classes, size = real_classes(model.settings["classes"]), tuple(model.settings["voxel_size_nm"])
    variables = jax.device_put((model.params, model.state))
    confusion, doubts, voxels = 0, [], {}
    for seed in SEEDS:
        made = phantom(seed, shape, size)
        image = array_volume(made.image, f"phantom_{seed}", size)
        means, _ = segment_block(model.apply, variables, None, image, whole(shape), 8)
        labels, entropy, ambiguous = decide(means, model.settings["classes"]["ambiguous"])
        truth, nothing = made.labels.astype(np.int16), np.zeros(shape, np.float32)
        confusion = confusion + overlap.confusion(truth, labels, classes)
        doubts.append(calibration.count_doubt(entropy, labels, truth))
        undecided = hide(entropy, nothing, TOKEN, THRESHOLD, 1.0)
        called = hide(nothing, ambiguous, TOKEN, 1.0, AMBIGUOUS_THRESHOLD)
        masks = (undecided, called, undecided & ~called, called & ~undecided, undecided | called)
        wrong = (labels != truth) & (truth >= 0)
        for region, mask in zip((*REGIONS, "all"), (*masks, np.ones(shape, bool)), strict=True):
            voxels[region] = voxels.get(region, 0) + np.array([mask.sum(), (mask & wrong).sum()])
    total, errors = voxels["all"]
    return {
        "dice": overlap.macro_dice(confusion, range(1, classes)),
        "auroc": calibration.auroc(calibration.add(*doubts)),
        "hidden": {region: float(voxels[region][0] / total) for region in REGIONS},
        "caught": {region: float(voxels[region][1] / max(errors, 1)) for region in REGIONS},
    }


def table(found):
    header = f"{'':12}{'Dice':>8}{'AUROC':>8}" + "".join(f"{region:>20}" for region in REGIONS)
    lines = [header, f"{'':28}" + "".join(f"{'hidden, of errors':>20}" for _ in REGIONS)]
    for way, one in found.items():
        cells = (f"{one['hidden'][region]:.2%}, {one['caught'][region]:.1%}" for region in REGIONS)
        lines.append(f"{way:12}{one['dice']:8.3f}{one['auroc']:8.3f}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
