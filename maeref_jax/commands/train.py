"""Train any method:  maeref train --config mae --workdir runs/mae [--config.KEY=VALUE …]

The workdir is the model: copy it, and maeref refine needs nothing else. The same command again continues where the last
checkpoint was; Ctrl-C and SIGTERM save first.

  an ensemble, on images that you annotated:
    maeref train --config ensemble --workdir runs/mine --classes background,mitochondria --voxel_size_nm 45,4.6,4.6
                 --images a.tif b.tif --labels a_mask.tif b_mask.tif
                 --validation_images c.tif --validation_labels c_mask.tif
    … or clicked on a few voxels of (z,y,x,class; docs/clicks.md):   --labels a_clicks.csv b_clicks.csv
  a refiner, on what that ensemble says of images (classes and voxel size are the ensemble's):
    maeref train --config mae --workdir runs/mae --ensemble runs/mine --images a.tif b.tif more.tif
                 --validation_images c.tif --validation_labels c_mask.tif
  a refiner, on label maps alone:   … --classes background,mitochondria --labels a.tif b.tif --validation_labels c.tif

  start from another model, e.g. with other classes:   --init_from runs/other
  several processes (on SLURM, Open MPI, TPU pods):      --distributed
  several processes anywhere:   --coordinator HOST:PORT --processes 2 --process_id 0    (and 1 on the other machine)
"""

import itertools

from etils import epath

from maeref_jax.commands import command_line
from maeref_jax.errors import BadInput

FILES = {
    "images": "data.train.images",
    "labels": "data.train.labels",
    "within": "data.train.within",
    "validation_images": "data.validation.images",
    "validation_labels": "data.validation.labels",
    "validation_within": "data.validation.within",
}
# How a config reads the files that it names itself; what is true of those is nothing that one knows of others.
OF_ITS_FILES = {"axes": "", "label_map": "", "shell_class": "-1", "shell_vx": "0"}
# Flags that are shorthand for a setting, which not every config has.
SHORTHAND = {**FILES, "ensemble": "data.ensemble", "label_map": "data.label_map", "init_from": "init_from"}


def main(argv):
    arguments, overrides = command_line.parse(flags(), argv)
    overrides = [*flag_overrides(arguments, command_line.load_config(arguments.config)), *overrides]
    settings = command_line.load_config(arguments.config, overrides).to_dict()
    check_processes(arguments)
    # Imported late: mistakes in the command are answered without waiting for jax.
    from maeref_jax.experiments import (
        class_settings,
        parameter_search,
        run,
        sparse_labels,
        spatial_continuity,
        train_settings,
        verdict,
        voxel_sizes,
    )
    from maeref_jax.pipeline import methods
    from maeref_jax.training import parallel
    from maeref_jax.training import workdir as folder

    names = tuple(arguments.classes.split(",")) if arguments.classes else ()
    typed = command_line.names_of(overrides)
    settings = voxel_sizes.settled(class_settings.settled(settings, names, typed), typed)
    staged = {module.METHOD: module for module in (sparse_labels, spatial_continuity)}
    if settings["method"] in staged:
        if arguments.distributed or arguments.coordinator or arguments.profile:
            raise BadInput(
                f"the stages of {arguments.config} are trained by one process; leave --distributed and such out"
            )
        return staged[settings["method"]].train(settings, arguments.workdir)
    if settings["method"] in methods.SEARCHED:
        parameter_search.check(settings)
        folder.check_same_run(arguments.workdir, settings)
        if arguments.distributed or arguments.coordinator or arguments.profile:
            raise BadInput(f"method {settings['method']} is searched in one process; leave --distributed and such out")
        run.check_place(arguments.workdir)
        if settings["data"]["phantom"]["validation"] and not settings["data"]["ensemble"]:
            train_ensemble_first(settings, arguments)
        return run.search(settings, arguments.workdir)
    train_settings.check(settings)
    if settings["method"] in methods.UNLEARNED | methods.RULES:
        folder.check_same_run(arguments.workdir, settings)
        run.check_place(arguments.workdir)
        folder.write_config(arguments.workdir, settings, {})
        print(f"{settings['method']} learns nothing; {arguments.workdir} is ready")
        return
    folder.check_starting_point(settings, arguments.workdir)
    if arguments.distributed or arguments.coordinator:
        parallel.connect(arguments.coordinator, arguments.processes, arguments.process_id)
    # What can be refused is refused before an ensemble is trained first.
    parallel.own_share(settings["batch"], settings["optimizer"]["accumulate"])
    folder.check_same_run(arguments.workdir, settings, verdict.may_change(settings))
    run.check_place(arguments.workdir)
    data = settings["data"]
    if data["phantom"]["train"] and "ensemble" in data and not data["ensemble"]:
        train_ensemble_first(settings, arguments)
    run.train(settings, arguments.workdir, arguments.profile)


def flags():
    """What --help shows, and what is typed."""
    found = command_line.parser(__doc__)
    found.add_argument(
        "--config", required=True, help="a config of the package, NAME or NAME:MODE, or a file, PATH.py or PATH.py:MODE"
    )
    found.add_argument("--workdir", required=True, help="where the model goes; gs://… as well (untested)")
    for name, setting in FILES.items():
        what = f"files of {setting.split('.')[1]}; instead of phantoms, in place of --config.{setting}"
        if setting.endswith("within"):
            what = f"masks, one for each volume: nothing outside is learned, or judged by; as --config.{setting}"
        found.add_argument(f"--{name}", nargs="+", metavar="PATH", help=what)
    found.add_argument("--ensemble", metavar="DIR", help="of a refiner: the ensemble that segments its images")
    found.add_argument("--classes", metavar="NAMES", help="names, background first: background,mitochondria")
    found.add_argument(
        "--label_map", metavar="ID:CLASS,…", help="what ids in label files mean: 0:0,255:1; or instances; or identity"
    )
    command_line.add_reading_flags(found)
    found.add_argument("--init_from", metavar="DIR", help="workdir to start from instead of random weights")
    found.add_argument("--profile", action="store_true", help="write a trace of a few steps to WORKDIR/profile")
    found.add_argument("--distributed", action="store_true", help="one of several processes, as the cluster says")
    found.add_argument("--coordinator", metavar="HOST:PORT", help="one of several processes; address of process 0")
    found.add_argument("--processes", type=int, metavar="N", help="how many there are")
    found.add_argument("--process_id", type=int, metavar="I", help="which of them this is, from 0")
    return found


def flag_overrides(arguments, config):
    """The overrides that the flags stand for; phantoms are left out where files of one's own are given. Raises BadInput
    for a flag whose setting this config does not have.
    """
    from maeref_jax.commands.requests import expand

    settings = SHORTHAND | {name: f"data.{name}" for name in command_line.READING if name != "voxel_size_nm"}
    given = {flag: getattr(arguments, flag) for flag in settings if getattr(arguments, flag)}
    for flag in given:
        if not has(config, settings[flag]):
            raise BadInput(
                f"--{flag}: the config {arguments.config} has no {settings[flag]} to set; leave the flag out"
            )

    def paths(typed):  # "" is none, but says that a volume has no mask
        return tuple(path for one in typed for path in (expand((one,)) if one else [""]))

    own = {flag: paths(given.pop(flag)) for flag in FILES if flag in given}
    found = [
        f"--config.data.phantom.{split}=" for split in ("train", "validation") if own and split in config.data.phantom
    ]
    # The slices and masks that a config names are those of its own stacks.
    of_stacks = itertools.product(sorted({FILES[flag].split(".")[1] for flag in own}), ("labelled_slices", "within"))
    found += [f"--config.data.{split}.{name}=" for split, name in of_stacks]
    if {"images", "labels"} & set(own):
        found += [f"--config.data.{name}={value}" for name, value in OF_ITS_FILES.items() if has(config.data, name)]
    found += [f"--config.{FILES[flag]}={paths!r}" for flag, paths in own.items()]
    found += [f"--config.{SHORTHAND[flag]}={value}" for flag, value in given.items() if flag in SHORTHAND]
    found += command_line.reading_overrides(arguments, "data." if "data" in config else "")
    if size := arguments.at_voxel_size_nm or arguments.voxel_size_nm:  # of what is read, and so of the model
        found.append(f"--config.voxel_size_nm={size}")
    return found


def has(config, setting):
    """Whether a config has a setting "group.key"."""
    group, _, key = setting.partition(".")
    return group in config and (not key or has(config[group], key))


def check_processes(arguments):
    """BadInput unless --coordinator, --processes and --process_id come together."""
    given = [arguments.coordinator, arguments.processes, arguments.process_id]
    if any(value is not None for value in given) and None in given:
        raise BadInput("--coordinator, --processes and --process_id belong together; some are missing")
    if arguments.coordinator and not 0 <= arguments.process_id < arguments.processes:
        raise BadInput(f"--process_id must be 0 … {arguments.processes - 1}, found {arguments.process_id}")


def train_ensemble_first(settings, arguments):
    """Without an ensemble there are no predictions to learn from: train the config `ensemble`, in the mode that is
    named, for the same seed, classes and voxel size.
    """
    from maeref_jax.experiments import class_settings, run

    workdir, mode = epath.Path(arguments.workdir) / "ensemble", settings["data"]["ensemble_mode"]
    config = f"ensemble{mode and ':'}{mode}"
    if not (workdir / "summary.json").exists():
        print(f"no --ensemble given: training {config} into {workdir} first", flush=True)
        same = {name: settings[name] for name in ("seed", "voxel_size_nm")}
        ensemble = {**command_line.load_config(config).to_dict(), **same}
        run.train(class_settings.with_classes(ensemble, settings["classes"]), workdir)
