"""What each choice of the masked autoencoder buys.

    python benchmarks/mae_ablation.py [--data phantoms|mef_cristae] [--predictions runs/demo/mae/predictions]
        [--rows 'base' 'blobs' …] [--steps 1500] [--seeds 3] [--output runs/ablation]

Small models (configs/mae.py:demo), one per row, fold and seed, trained on true label maps: phantoms, the last two held
out; or the mitochondria of mef_cristae (MAEREF_DATA names the folder) in three folds, whole ones held out (NI_m6, the
test volume, takes no part). Prints tables of Dice over the hidden tokens of held-out crops, at masking ratios from 0.1
to 0.9, tokens scattered and contiguous: mean ± standard error over volumes, the mean over seeds taken first.

    micro   over all classes, background included, hidden pixels within 10 pixels of foreground (the paper's column)
    macro   mean over the foreground classes, all hidden pixels

"nearest visible label" learns nothing. Rows below "base" change one thing each; "use:" rows take the base model as it
is and fill in another way. Rows that transplant entropy need --predictions, entropy maps of the phantoms by an
ensemble; without it, and for mef_cristae, they are left out. What is done is kept in --output, and the same command
again goes on from there. 30 small models for the phantoms: an hour on 2 CPU cores. --smoke: two minutes, means nothing.
"""

import argparse
import json
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from maeref_jax.commands import command_line
from maeref_jax.evaluation import reconstruction
from maeref_jax.evaluation.reconstruction import RATIOS, SHAPES
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.refiners import mae
from maeref_jax.refiners.masked_training import real_classes
from maeref_jax.samples import sampling, training_volumes
from maeref_jax.training.optimizer import build_optimizer
from maeref_jax.training.state import initial_state, update
from maeref_jax.volumes.volume import open_volume
from maeref_jax.volumes.windows import whole

# What is trained: changes of the base config, groups as "group.key".
TRAINED = {
    "base: one-hot, scattered, hidden only": {},
    "class id as a number": {"model.one_hot": False},
    "no rotary positions": {"model.rotary": False},
    "blobs": {"mask_shapes": (0.0, 1.0, 0.0)},
    "half scattered, half blobs": {"mask_shapes": (1.0, 1.0, 0.0)},
    "from scattered to blobs": {"mask_shapes": (0.0, 1.0, 0.0), "curriculum": 1.0},
    "half scattered, half transplanted": {"mask_shapes": (1.0, 0.0, 1.0)},
    "loss over all near tokens": {"loss_over": "near"},
    "constant rate, no warm-up": {"optimizer.schedule": "constant", "optimizer.warmup_steps": 0},
    "average of the weights (0.99)": {"optimizer.average": 0.99},
}
# How the base model is used.
USED = {
    "use: mean over 8 symmetries": {"symmetries": True},
    "use: 4 rounds, most certain first": {"rounds": 4},
    "use: symmetries and 4 rounds": {"symmetries": True, "rounds": 4},
    "use: agreement of 8 samples": {"samples": 8},
}
NOTHING = "nearest visible label"


def main():
    given = command()
    # Seeds of a row run the same programs.
    jax.config.update("jax_compilation_cache_dir", str(given.output.absolute() / "compiled"))
    settings = command_line.load_config(f"configs/mae.py:{'smoke' if given.smoke else 'demo'}").to_dict()
    settings |= {"threshold": 1.0, "train_threshold": 1.1}  # labels are the truth here
    settings["steps"] = given.steps
    if given.data == "phantoms":
        volumes = phantoms(settings, given.smoke, given.predictions)
        folds = [(volumes[:-2], volumes[-2:])]
    else:
        volumes, settings = mitochondria(settings, given.smoke)
        folds = [([v for i, v in enumerate(volumes) if i % 3 != fold], volumes[fold::3]) for fold in range(3)]
    rows = {name: changes for name, changes in TRAINED.items() if not given.rows or name in given.rows}
    if volumes[0].entropy is None:
        rows = {name: changes for name, changes in rows.items() if not changes.get("mask_shapes", (0, 0, 0))[2]}
    device = jax.devices()[0].device_kind
    print(f"{device}, jax {jax.__version__}, {given.steps} steps, seeds 0 to {given.seeds - 1}", flush=True)
    table(given, settings, folds, rows)


def command():
    flags = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    flags.add_argument("--data", choices=("phantoms", "mef_cristae"), default="phantoms")
    flags.add_argument("--predictions", type=Path)
    flags.add_argument("--rows", nargs="+", choices=TRAINED, metavar="ROW")
    flags.add_argument("--steps", type=int, default=1500)
    flags.add_argument("--seeds", type=int, default=3)
    flags.add_argument("--crops", type=int, default=16, help="of every held-out volume")
    flags.add_argument("--output", type=Path, default=Path("runs/ablation"))
    flags.add_argument("--smoke", action="store_true")
    return flags.parse_args()


def phantoms(settings, smoke, predictions):
    """Label maps of phantoms, no images; entropy of those that are trained on, where predictions are given."""
    shape, voxel_size_nm = tuple(settings["data"]["phantom"]["shape"]), tuple(settings["voxel_size_nm"])

    def volume(seed):
        labels, entropy = phantom(seed, shape, voxel_size_nm).labels.astype(np.int16), None
        if predictions is not None:
            path = predictions / f"phantom_{seed}.ome.zarr" / "entropy"
            entropy = open_volume(path).read(whole(shape)).astype(np.float32) / 255 if path.exists() else labels * 0.0
        return training_volumes.TrainingVolume(f"phantom_{seed}", None, labels, entropy)

    return [volume(seed) for seed in range(10, 13 if smoke else 22)]


def mitochondria(settings, smoke):
    """The label volumes of configs/mae_mef_cristae.py, and the settings for them."""
    data = command_line.load_config("configs/mae_mef_cristae.py:small").to_dict()["data"]
    paths = (data["train"]["labels"] + data["validation"]["labels"])[: 3 if smoke else None]
    given = {"images": (), "labels": paths, "entropy": ()}
    volumes = training_volumes.volumes_from_files(given, data, settings["classes"], with_image=False)
    return volumes, {**settings, "voxel_size_nm": (5.0, 5.0, 5.0)}


def table(given, settings, folds, rows):
    """Trains and judges every row on every fold and seed, and prints the table."""
    scores: dict[str, list] = {}
    for fold, (train, held_out) in enumerate(folds):
        cases = [hidden_cases(settings, volume, given.crops) for volume in held_out]
        scores.setdefault(NOTHING, []).extend([judged(settings, case, reconstruction.nearest) for case in cases])
        for row, changes in rows.items():
            uses = {row: {}, **(USED if not changes else {})}
            found = []
            for seed in range(given.seeds):
                settled = given.output / f"{given.data}, fold {fold}, {row}, seed {seed}, {given.steps} steps.json"
                if not settled.exists():
                    changed = with_changes(settings, changes)
                    params = trained(changed, train, seed)
                    one = [
                        [judged(settings, case, filler(changed, params, use)) for case in cases]
                        for use in uses.values()
                    ]
                    settled.parent.mkdir(parents=True, exist_ok=True)
                    settled.write_text(json.dumps(one))
                    print(settled, file=sys.stderr, flush=True)
                found.append(json.loads(settled.read_text()))
            for i, label in enumerate(uses):
                scores.setdefault(label, []).extend(np.mean([one[i] for one in found], axis=0))
    print(f"\n{given.data}, {sum(len(held_out) for _, held_out in folds)} held-out volumes\n")
    for i, measure in enumerate(("micro", "macro")):
        for j, shape in enumerate(SHAPES):
            print(f"{measure + ', ' + shape:40}" + "".join(f"{'ρ = ' + format(ratio, 'g'):>14}" for ratio in RATIOS))
            for row, values in scores.items():
                print(f"{row:40}" + "".join(cell([volume[i][j][k] for volume in values]) for k in range(len(RATIOS))))
            print(flush=True)


def cell(values):
    """Mean ± standard error over volumes; without the error where there is but one."""
    mean, error = np.nanmean(values), np.nanstd(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return f"{mean:.3f} ± {error:.3f}".rjust(14)


def with_changes(settings, changes):
    changed = {name: dict(value) if isinstance(value, dict) else value for name, value in settings.items()}
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        (changed[group] if group else changed)[name] = value
    return changed


def trained(settings, volumes, seed):
    """Parameters after settings["steps"] steps on the volumes."""
    method, average = mae.method(settings), settings["optimizer"]["average"]
    optimizer = build_optimizer({**settings["optimizer"], "steps": settings["steps"]})
    crops = tuple(settings["window"]), settings["token"], settings["min_foreground"], settings["masking_ratio"]

    donors = settings["mask_shapes"][2] > 0

    def batch(step):
        drawn = {"donors": donors, "progress": step / settings["steps"]}
        return sampling.label_batch(volumes, seed, step, range(settings["batch"]), *crops, **drawn)

    key = jax.random.key(seed)
    state = jax.jit(partial(initial_state, method, optimizer, average=average))(key, batch(0))
    step = jax.jit(partial(update, method, optimizer, average=average))
    for number in range(settings["steps"]):
        state, _ = step(state, batch(number), jax.random.fold_in(key, number))
    return state.used


def hidden_cases(settings, volume, crops):
    """{shape: {ratio: (truth, hidden)}} for crops of a volume, the same for every row. (b, y, x) each."""
    window, token = tuple(settings["window"]), settings["token"]
    truth, _ = reconstruction.cut(volume, crops, window, settings["min_foreground"], seed=99)
    truth = np.where(truth < real_classes(settings), truth, -1)

    def hidden(shape, ratio):
        return reconstruction.hidden_tokens(jax.random.key(round(1000 * ratio)), crops, ratio, window, token, shape)

    return {shape: {ratio: (truth, hidden(shape, ratio)) for ratio in RATIOS} for shape in SHAPES}


def filler(settings, params, use):
    """(labels, hidden) -> labels with hidden ones filled in by a trained model."""
    refine = jax.jit(mae.refiner({**settings, "use": {**settings["use"], **use}}).refine)

    def fill(labels, hidden):
        given = {"labels": jnp.asarray(labels), "hidden": jnp.asarray(hidden)}
        return np.asarray(refine(params, {}, given, jax.random.key(0)).argmax(-1))

    return fill


def judged(settings, case, fill):
    """(micro, macro) Dice, each [shape][ratio], of a fill on one volume's cases."""
    micro, macro = [], []
    for shape in SHAPES:
        near, every = [], []
        for ratio in RATIOS:
            truth, hidden = case[shape][ratio]
            filled, sure = fill(np.where(hidden, -1, truth), hidden), np.ones_like(hidden)
            counts = reconstruction.counts(truth, filled, hidden, sure, real_classes(settings))
            near.append(reconstruction.paper_like(counts))
            every.append(reconstruction.macro(counts))
        micro.append(near)
        macro.append(every)
    return micro, macro


if __name__ == "__main__":
    main()
