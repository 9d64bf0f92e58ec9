"""What a user asks of refine.py: flags and a config file, read together and checked before any file is opened."""

import argparse

from maeref_jax.commands import command_line, requests
from maeref_jax.errors import BadInput
from maeref_jax.volumes.voxel_size import checked_size
from maeref_jax.volumes.within import AUTO


def read_config(argv: list[str], description: str):
    """The config with overrides and flags applied. Raises BadInput where they are incomplete or contradict.

    description: what --help says above the flags.
    """
    flags = command_line.parser(description)
    add = flags.add_argument
    add(
        "--input",
        nargs="+",
        metavar="PATH",
        help="images: files, folders (also of many), URLs, globs; image.tif[0:8] for slices, a.h5:/raw for a dataset",
    )
    add("--batch", metavar="TABLE.csv", help="a row for every input, columns image, labels, …: docs/formats.md")
    add("--output", metavar="DIR", help="where the results go")
    add(
        "--ensemble",
        metavar="DIR|texture",
        help="workdir of the ensemble that segments the image; or texture, which learns nothing and finds tissue",
    )
    add("--labels", metavar="PATH", help="your own labels, instead of an ensemble")
    add("--entropy", metavar="PATH", help="entropy of your labels: float in [0, 1], or uint8")
    add("--hidden", metavar="PATH", help="a painted mask of what to refine: nonzero is hidden")
    add(
        "--within",
        metavar="MASK|auto",
        help="a mask of what to work on, such as tissue, on any grid of the same extent: the rest becomes background; "
        "auto: of the tissue, made first",
    )
    add("--probabilities", nargs="+", metavar="PATH", help="your own class probabilities (axes CZYX)")
    add(
        "--nnunet",
        nargs="+",
        metavar="DIR",
        help="nnU-Net's predictions as they are: CASE.npz and CASE.pkl; several, or fold_*/, are members of an "
        "ensemble; --input is then its folder of images, if any",
    )
    add(
        "--refiner",
        metavar="DIR|NAME|none",
        help="workdir of the refiner; or nearest, morphology, continuity, which learn nothing; none: segment only",
    )
    add(
        "--hide_by",
        metavar="entropy|error|DIR",
        help="what says which tokens are filled in: entropy; or the error that a corrector expects, the refiner itself "
        "or another one's workdir",
    )
    add("--threshold", metavar="T", help="tokens of higher mean entropy are hidden (default: the refiner's own)")
    add(
        "--suggest_threshold",
        nargs="?",
        const="none",
        metavar="TRUTH",
        help="refine nothing: try thresholds, store the one that gets most voxels right of TRUTH in the refiner",
    )
    add(
        "--classes",
        metavar="NAMES",
        help="class names, background first: for --refiner none or NAME; else models know them",
    )
    add(
        "--label_map",
        metavar="ID:CLASS,…",
        help="what ids of --labels or of a TRUTH mean, e.g. 0:0,255:1; instances: all above 0 are class 1; identity",
    )
    command_line.add_reading_flags(flags)
    add(
        "--witness",
        metavar="CHANNEL|PATH",
        help="an independent stain, a channel of the image or a file: score the outlines, before and after, against it",
    )
    add(
        "--export",
        metavar="FORMAT",
        help="write the maps in this format too: nii.gz, mrc, nrrd, ome.tif, npy, …; several with commas",
    )
    add("--copy_image", action="store_true", default=None, help="put the image into STEM.ome.zarr, not only its path")
    add("--dry_run", action="store_true", default=None, help="say what it will take (disk, memory, hours), do nothing")
    add("--strict", action="store_true", default=None, help="stop where there is a warning, exit code 2")
    add("--overwrite", action="store_true", default=None, help="remove an earlier output first")
    add("--num_parts", metavar="N", help="so many processes work on the same output, started by you, on any machine")
    add("--part_id", metavar="I", help="which of them this is, from 0 to N - 1")
    add("--workers", metavar="N", help="so many processes, started and watched by this one (pip install 'daisy>=2')")
    add("--serve", help=argparse.SUPPRESS)  # what a worker is started with: the stem
    add("--config", default="refine", metavar="NAME|FILE[:MODE]", help="everything else: see configs/refine.py")
    arguments, overrides = command_line.parse(flags, argv)
    # A flag wins over the config field of its name; its value is read and checked as that field's.
    given = {name: value for name, value in vars(arguments).items() if name != "config" and value is not None}
    if "batch" in given:  # the field `batch` is the number of windows
        given["batch_table"] = given.pop("batch")
    many = {name: tuple(given.pop(name)) for name in ("input", "probabilities", "nnunet") if name in given}
    overrides += [f"--config.{name}={value}" for name, value in given.items()]
    config = command_line.load_config(arguments.config, overrides)
    config.update(many)
    config.typed = ("maeref", "refine", *argv)
    check_usage(config)
    return config


def works_everywhere(config) -> bool:
    """Whether the refiner, as it is to be used, says itself which voxels change; False where there is none."""
    if config.use.everywhere is not None or config.refiner == "none":
        return bool(config.use.everywhere)
    if command_line.is_workdir(config.refiner):
        settings = command_line.settings_in(config.refiner)
    elif command_line.is_packaged(config.refiner):
        settings = command_line.load_config(config.refiner).to_dict()
    else:
        return False
    return bool(settings.get("use", {}).get("everywhere"))


def check_usage(config) -> None:
    """Raises BadInput for flags that are missing or exclude one another."""
    for name in ("output", "refiner"):
        if not config[name]:
            raise BadInput(f"--{name} is missing (--help shows examples)")
    given = [name for name in ("input", "labels", "entropy", "hidden", "probabilities") if config[name]]
    beside = given + ["within"] * (config.within not in ("", AUTO))
    if config.batch_table and beside:
        raise BadInput(f"--batch and --{beside[0]} both say what to refine; put the paths into {config.batch_table}")
    if config.nnunet:
        wrong = [f"--{name}" for name in (*given, "ensemble") if name != "input" and config[name]]
        if wrong or config.batch_table:
            raise BadInput(f"--nnunet says what to refine; leave {', '.join(wrong or ['--batch'])} out")
    elif not config.batch_table:
        sources = [*given, *["ensemble"] * bool(config.ensemble)]
        requests.check_sources(sources, "--", works_everywhere(config))
    with_ids = config.labels or config.batch_table or config.suggest_threshold not in ("", "none")
    if config.label_map and not (with_ids or config.nnunet):
        raise BadInput(
            "--label_map says what ids mean, of --labels, of a TRUTH, or of --nnunet; there are none of these here, "
            "leave it out"
        )
    if config.workers < 0:
        raise BadInput(f"--workers must be the number of processes, 1 or more, or 0 for none; found {config.workers}")
    if config.workers and config.num_parts > 1:
        raise BadInput(f"--workers {config.workers} with --num_parts {config.num_parts}, expected one of the two")
    if config.suggest_threshold:
        wrong = [f"--{name}" for name in ("batch_table", "labels", "dry_run", "workers") if config[name]]
        wrong += ["--hide_by"] * (config.hide_by != "entropy")
        wrong += ["--num_parts"] * (config.num_parts != 1) + ["--refiner none"] * (config.refiner == "none")
        if wrong:
            raise BadInput(
                f"--suggest_threshold does not go with {', '.join(wrong).replace('batch_table', 'batch')}: it "
                "wants one --input with --ensemble, or --probabilities of one, and a --refiner, in one process"
            )
    if config.part_id is None:
        if config.num_parts > 1 and not config.dry_run:
            raise BadInput(
                f"--num_parts {config.num_parts} without --part_id: say which of them this is, 0 to "
                f"{config.num_parts - 1}; each part is started by a command of its own"
            )
        config.part_id = 0
    if config.ensemble_symmetries is not None and not config.ensemble:
        raise BadInput("--config.ensemble_symmetries says how --ensemble predicts, which is missing; leave it out")
    for name in command_line.SIZES:
        if config[name]:
            checked_size(config[name], f"--{name} Z,Y,X")
    for name in ("ensemble", "refiner"):
        if config[name] in ("", "none") or command_line.is_workdir(config[name]):
            continue
        if not command_line.is_packaged(config[name]):
            raise BadInput(f"--{name} {config[name]} is not the workdir of a train.py run: it has no config.json")
        if config.suggest_threshold and name == "refiner":
            raise BadInput(
                f"--suggest_threshold stores what it finds in the refiner's workdir; --refiner {config.refiner} has "
                f"none; make one: maeref train --config {config.refiner} --workdir DIR"
            )
