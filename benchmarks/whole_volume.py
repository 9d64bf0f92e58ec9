"""The whole job beside what else one would run: files on disk to files on disk, time and peak memory.

    python benchmarks/whole_volume.py [--shape 4 512 512] [--rounds 3] [--jobs segment refine] [--growth]
        [--ensemble configs/ensemble.py:demo] [--mae configs/mae.py:demo] [--hidden 0.08] [--folder runs/whole_volume]

Image to labels and entropy: ours (the pipeline of refine.py --refiner none) beside MONAI's sliding_window_inference
over the same six U-Nets, and beside a loop over folds as nnU-Net's; same weights, windows, overlap and blending, so
that labels must agree. Labels and entropy to refined labels: ours beside a masked autoencoder of the same size in
PyTorch (pytorch_models.py) over the same windows, those without a hidden token left out. Networks have random weights.
Without torch and monai, which the library does not need, ours alone.

Every run is a process of its own, which may use the processors that this one may; runs alternate. "seconds" are of the
process, imports included, "work" without them, "processor" of all its threads: that is what a busy machine changes
least. Ours keeps what it compiled, as refine.py does, and "first" is its first run, which compiles. Ours writes
OME-Zarr with digests and coarser levels and TIFF stacks, the others TIFF alone.

--growth: instead, once for each, volumes of 1, 2 and 4 times the shape (of as many slices; four times as many where
labels are refined), the hidden share, the classes and the members; one plot, FOLDER/growth.png.

--shape 64 1024 1024 --ensemble configs/ensemble.py --mae configs/mae.py is what people have: hours on a CPU.
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

JOBS = {"segment": ("ours", "MONAI", "folds"), "refine": ("ours", "PyTorch")}
TIMES = (1, 2, 4)


def main():
    given = flags().parse_args()
    if given.side:
        return side(Path(given.side[0]), *given.side[1:])
    jobs = {job: sides[: None if can_compare() else 1] for job, sides in JOBS.items() if job in given.jobs}
    if given.growth:
        return growth(given, jobs)
    found = {}
    for job, sides in jobs.items():
        folder = given.folder.absolute() / job
        prepare(folder, job, given)
        found |= {(job, name): [run(folder, job, name)] for name in sides}
        for number in range(given.rounds):
            for name in sides[:: -1 if number % 2 else 1]:
                found[job, name].append(run(folder, job, name))
    rows = []
    for (job, name), (first, *others) in found.items():
        one, ours = middle(others), middle(found[job, "ours"][1:])
        ratios = (ours[key] / one[key] for key in ("seconds", "processor", "peak_mib"))
        numbers = (one["seconds"], one["work"], one["processor"], one["peak_mib"], *ratios, first["seconds"])
        rows.append((f"{job}, {name}", *map(float, numbers), agreement(given.folder.absolute() / job, job, name)))
    import measuring  # late: what this process holds would count as the first memory of those that it starts

    voxels = " x ".join(map(str, given.shape))
    header = (voxels, "seconds", "work", "processor", "peak MiB", "ours/it: s", "processor", "memory", "first", "same")
    measuring.report("whole_volume", header, rows)
    return 0


def flags():
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("--shape", type=int, nargs=3, default=(4, 512, 512))
    found.add_argument("--ensemble", default="configs/ensemble.py:demo")
    found.add_argument("--mae", default="configs/mae.py:demo")
    found.add_argument("--hidden", type=float, default=0.08)
    found.add_argument("--rounds", type=int, default=3)
    found.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS))
    found.add_argument("--folder", type=Path, default=Path("runs/whole_volume"))
    found.add_argument("--growth", action="store_true")
    found.add_argument("--side", nargs=3, help=argparse.SUPPRESS)  # of a process of its own: folder, job, name
    return found


def can_compare():
    """Whether the opponents can be imported; says what they need."""
    missing = [name for name in ("torch", "monai") if importlib.util.find_spec(name) is None]
    if missing:
        print(f"ours alone: no {' and no '.join(missing)} here; pip install torch, then pip install --no-deps monai")
    return not missing


def prepare(folder, job, given, **more):
    """Makes a folder with inputs, weights and settings of a job, in a process of its own. more: `members`, and
    `classes`, how many there are beyond those of the config.
    """
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = given.ensemble if job == "segment" else given.mae
    asked = {"config": str(ROOT / config), "shape": given.shape, "hidden": given.hidden, **more}
    (folder / "asked.json").write_text(json.dumps(asked))
    run(folder, job, "inputs")


def write_inputs(folder):
    """What the process of `prepare` does."""
    import jax
    import numpy as np
    import volume_speed
    from flax.traverse_util import flatten_dict
    from gpu_setup import first_weights
    from scipy import ndimage

    from maeref_jax.commands import command_line
    from maeref_jax.volumes.volume import write_tiff

    asked = json.loads((folder / "asked.json").read_text())
    settings = command_line.load_config(asked["config"]).to_dict()
    settings["members"] = asked.get("members", settings.get("members"))
    add_classes(settings, asked.get("classes", 0))
    params, _ = first_weights(settings)
    np.savez(folder / "weights.npz", **flatten_dict(jax.device_get(params), sep="/"))
    (folder / "settings.json").write_text(json.dumps(settings))
    labels, entropy = volume_speed.stack(tuple(asked["shape"]), asked["hidden"])
    rng, (slices, *plane) = np.random.default_rng(1), asked["shape"]
    grey = np.stack([ndimage.gaussian_filter(rng.normal(size=plane), 3) for _ in range(slices)])
    image = np.clip(128 + 40 * grey / grey.std(), 0, 255).astype(np.uint8)
    for name, array in (("image", image), ("labels", labels), ("entropy", entropy)):
        write_tiff(folder / f"{name}.tif", array, settings["voxel_size_nm"])


def add_classes(settings, more):
    """`more` foreground classes, before the one that is called ambiguous."""
    known, added = settings["classes"], [f"class_{i}" for i in range(more)]
    names, colours = list(known["names"]), list(known["colours"])
    known["names"] = (*names[:-1], *added, names[-1])
    known["colours"] = (*colours[:-1], *((10 + 9 * i, 200, 255 - 9 * i) for i in range(more)), colours[-1])
    known["ambiguous"] += more
    settings["class_weights"] = (1.0,) * (len(settings["class_weights"]) + more)


def run(folder, job, name):
    """A run in a process of its own: {"seconds", "work", "processor", "peak_mib"}."""
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir()
    command = [sys.executable, __file__, "--side", str(folder), job, name]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    told = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{job}, {name} ended with {process.returncode}")
    found = {"seconds": time.monotonic() - began, "processor": used.ru_utime + used.ru_stime}
    found |= {"work": float(told.split()[-1]), "peak_mib": used.ru_maxrss / 1024}
    print(f"{job}, {name}: " + ", ".join(f"{key} {value:.1f}" for key, value in found.items()), flush=True)
    return found


def middle(runs):
    return {key: statistics.median(one[key] for one in runs) for key in runs[0]}


def side(folder, job, name):
    """What a process of `run` does; prints the seconds without imports."""
    if name == "inputs":
        write_inputs(folder)
        print(0)
        return 0
    import numpy as np

    from maeref_jax.volumes.windows import blending_weight

    settings = json.loads((folder / "settings.json").read_text())
    with np.load(folder / "weights.npz") as found:
        weights = dict(found)
    if name == "ours":
        import whole_volume_ours

        work = {"segment": whole_volume_ours.segment, "refine": whole_volume_ours.refine}[job]
        began = time.monotonic()
        work(folder, folder / name, settings, weights)
    else:
        import pytorch_volumes

        if name == "MONAI":
            import monai.inferers  # noqa: F401, its time is that of imports

        opponents = {"MONAI": pytorch_volumes.by_monai, "folds": pytorch_volumes.by_folds}
        opponents |= {"PyTorch": pytorch_volumes.refine}
        pytorch_volumes.prepare()
        began = time.monotonic()
        opponents[name](folder, folder / name, settings, weights, blending_weight(settings["window"]))
    print(time.monotonic() - began)
    return 0


def agreement(folder, job, name):
    """Which share of the voxels has our label; of the masked autoencoder, whose weights differ, of those that nobody
    may change.
    """
    import numpy as np
    import tifffile

    from maeref_jax.pipeline.refining import open_result
    from maeref_jax.volumes.windows import whole

    def ours(role):
        volume = open_result(folder / "ours", "it", role)
        return volume.read(whole(volume.shape))

    if name == "ours":
        return "1"
    if job == "segment":
        return f"{(tifffile.imread(folder / name / 'labels.tif') == ours('initial')).mean():.5f}"
    kept = ours("hidden") == 0
    return f"{np.mean(tifffile.imread(folder / name / 'refined.tif')[kept] == ours('refined')[kept]):.5f}"


def growth(given, jobs):
    """Runs once what grows, and plots time and memory."""
    rows, (slices, *plane) = [], given.shape
    for what, job, changed in (
        ("volume", "segment", lambda times: {"shape": (slices * times, *plane)}),
        ("volume", "refine", lambda times: {"shape": (4 * slices * times, *plane)}),
        ("hidden share", "refine", lambda times: {"shape": (4 * slices, *plane), "hidden": 0.05 * times}),
        ("members", "segment", lambda times: {"members": 2 * times}),
        ("classes", "segment", lambda times: {"classes": 5 * (times - 1)}),
    ):
        for times in TIMES * (job in jobs):
            asked = changed(times)
            more = {key: asked.pop(key) for key in ("members", "classes") if key in asked}
            one = argparse.Namespace(**{**vars(given), **asked})
            folder = given.folder.absolute() / "growth"
            prepare(folder, job, one, **more)
            run(folder, job, "ours")  # compiles
            for name in jobs[job]:
                found = run(folder, job, name)
                rows.append((f"{job}, {name}, {what} x {times}", found["processor"], found["peak_mib"]))
            plot(rows, given.folder / "growth.png")  # of what there is: the whole of it takes long
    import measuring

    measuring.report("whole_volume_growth", ("", "processor s", "peak MiB"), rows)
    print(given.folder / "growth.png")
    return 0


def plot(rows, path):
    """One plot of the rows (job, side, what x times; processor seconds; peak MiB), a column for each job and what."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    panels = {}
    for name, *values in rows:
        job, side_name, grown = name.split(", ")
        what, times = grown.rsplit(" x ", 1)
        panels.setdefault(f"{job}: {what}", {}).setdefault(side_name, []).append((int(times), *values))
    figure = Figure(figsize=(3.4 * len(panels), 6.4), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, len(panels), squeeze=False, sharex=True)
    for column, (title, curves) in zip(axes.T, panels.items(), strict=True):
        for number, (axis, unit) in enumerate(zip(column, ("processor seconds", "peak MiB"), strict=True)):
            for side_name, points in curves.items():
                axis.plot([p[0] for p in points], [p[1 + number] for p in points], "o-", label=side_name)
            axis.set(title=title, xlabel="times", ylabel=unit, xticks=TIMES)
            axis.set_ylim(bottom=0)
            axis.legend(frameon=False)
    figure.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
