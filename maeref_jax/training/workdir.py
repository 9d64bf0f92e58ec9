"""The folder of a run, which is the model: config.json, checkpoints/, metrics.jsonl, summary.json, model_card.md; and
compiled/, what training and using it have compiled, which may be removed.
"""

import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path

import jax
from etils import epath

from maeref_jax.errors import MARK, BadInput, tell
from maeref_jax.training import checkpoint
from maeref_jax.training.digests import digest_of_json
from maeref_jax.volumes.json_files import parse_object
from maeref_jax.volumes.volume import resolved

# What a run may change when it is continued: how long it goes on, how often it saves, how far files are trusted. The
# rest makes another.
MAY_CHANGE = ("steps", "pseudo_labels.steps", "evaluate_every", "stop_after")
MAY_CHANGE += ("checkpoint.minutes", "checkpoint.keep", "checkpoint.patience_s")
MAY_CHANGE += ("data.follow_links", "data.unpacked_gb", "data.piece_gb")
# What a run leaves that was stopped before it had a config.json; and what people write beside it themselves.
BEGUN, LOGS = ("ensemble", "clicks", "predictions", "compiled", "claims"), (".log", ".out", ".err")
DIGEST = "facts_blake2b"
BESIDE = ("calibration.json", "gain.json")  # what training chooses after the last step, and use reads
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def keep_compiled(workdir):
    """Has programs that are compiled from now on kept in the folder `compiled` of a workdir, for the next start. Where
    a folder was chosen before (JAX_COMPILATION_CACHE_DIR, or an earlier call), that one stays. A workdir that cannot be
    written to, or is no folder of a file system, keeps none. One that is not there yet is made with the first program.
    """
    if jax.config.jax_compilation_cache_dir or "://" in str(workdir):
        return
    place = Path(workdir).absolute()
    if not os.access(next(path for path in (place, *place.parents) if path.exists()), os.W_OK):
        return
    # Programs for another processor may use instructions that this one has not got.
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.exists() else [platform.processor()]
    abilities = next((line for line in lines if line.startswith(("flags", "Features"))), lines[0])
    machine = f"{platform.machine()}_{hashlib.sha256(abilities.encode()).hexdigest()[:8]}"
    jax.config.update("jax_compilation_cache_dir", str(place / "compiled" / machine))
    # By default those are left out that take less than a second, which are nearly all on a CPU.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def check_same_run(workdir, settings, but=()):
    """BadInput if `workdir` is the home of another run, naming every difference, or holds somebody's own files. Nothing
    is written. Of a run whose config.json was lost, the checkpoints know the settings. but: as of `differences`.
    """
    path = epath.Path(workdir) / "config.json"
    if path.exists():
        found = read_config(workdir)["config"]
    elif saved := checkpoint.saved_settings(workdir):
        found = saved[1]
    else:
        return _check_unused(epath.Path(workdir))
    if changed := differences(found, settings, but):
        raise BadInput(f"{workdir} belongs to a run with other settings ({changed}); take a new --workdir")


def lost_config(workdir):
    """The step of the checkpoint that knows the settings of a workdir whose config.json was lost; None otherwise."""
    saved = checkpoint.saved_settings(workdir)
    return saved[0] if saved and not (epath.Path(workdir) / "config.json").exists() else None


def check_config(workdir, settings):
    """BadInput if the settings of its config.json are not those that a workdir was trained with, as far as they say how
    it is used. Where data are may be spelt otherwise.
    """
    saved = checkpoint.saved_settings(workdir)
    if saved and (changed := differences(settings, saved[1], but=("data.", "init_from"))):
        raise BadInput(
            f"{workdir}/config.json is damaged, or was edited: checkpoint {saved[0]} was trained otherwise ({changed}, "
            "where here is the checkpoint); remove config.json, and give the train.py command again, which writes it"
        )


def differences(there, here, but=()):
    """How two settings differ in what makes a run what it is, in words; "" where they do not. What one of them lacks,
    as of an earlier version, is None or an empty list there. but: how names begin that do not count.
    """
    there, here = (lasting(json.loads(json.dumps(settings))) for settings in (there, here))
    return "; ".join(
        f"{key}: {there.get(key, 'absent')} there, {here.get(key, 'absent')} here"
        for key in sorted(there.keys() | here.keys())
        if not key.startswith(but) and not _same(key, there, here)
    )


def _same(key, there, here):
    if key in there and key in here:
        return _spelt_out(there[key]) == _spelt_out(here[key])
    return there.get(key, here.get(key)) in (None, [])


def _check_unused(path):
    """BadInput for a folder without a config.json that holds what a run does not make before it has one."""
    theirs = sorted(found.name for found in path.iterdir()) if path.is_dir() else []
    theirs = [name for name in theirs if name not in BEGUN and not name.startswith(".")]
    theirs = [name for name in theirs if not name.endswith((".part", *LOGS))]
    if theirs:
        raise BadInput(
            f"{path} holds {theirs[0]} and no config.json: it is no workdir of a train.py run, or has lost what says "
            "which; take a new --workdir, or move that away"
        )


def check_starting_point(settings, workdir):
    """BadInput if a fresh run in `workdir` is to start from what is no workdir, or one of another kind of model."""
    source = settings["init_from"]
    if not source or (epath.Path(workdir) / "checkpoints").exists():
        return
    theirs = read_config(source)["config"]
    for name in ("method", "token"):
        if theirs.get(name) != settings.get(name):
            raise BadInput(f"cannot start from {source}: {name} is {theirs.get(name)} there, {settings.get(name)} here")


def starting_point(settings):
    """params -> params for a run that starts from the best checkpoint of the workdir settings["init_from"]; None for
    none. Used by a fresh run only, so that one that goes on no longer needs that workdir.

    What fits is taken over; layers that depend on the classes start afresh where the classes differ, saying so.
    """
    source = settings["init_from"]
    if not source:
        return None

    def take_over(params):
        theirs = read_config(source)["config"]
        same_classes = list(theirs["classes"]["names"]) == list(settings["classes"]["names"])
        found = checkpoint.load_best(source)
        for doubt in found.doubts:
            tell(f"{MARK}{doubt}")
        taken, fresh = checkpoint.adopted(params, found.params, source, same_classes)
        print(f"starting from {source}" + (f"; new are {', '.join(fresh)}" if fresh else ""), flush=True)
        return taken

    return take_over


def make_workdir(workdir):
    """The folder, if it is not there yet. Raises BadInput where it cannot be made."""
    try:
        epath.Path(workdir).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"cannot make the workdir {workdir}: {error}") from error


def write_config(workdir, settings, facts):
    """config.json: the method's name, its settings, facts of the data it met, library versions."""
    make_workdir(workdir)
    versions = {library: version(library) for library in LIBRARIES}
    content = {"method": settings["method"], "config": settings, "facts": facts, "versions": versions}
    content |= {DIGEST: digest_of_json(facts)}  # the settings are in every checkpoint as well
    write_text(epath.Path(workdir) / "config.json", json.dumps(content, indent=1))


def read_config(workdir):
    """What write_config wrote. BadInput if `workdir` is no workdir."""
    path = epath.Path(workdir) / "config.json"
    try:
        found = parse_object(path.read_bytes(), path)
    except (OSError, BadInput) as error:
        lost = f"cannot read {path} ({error})"
        if checkpoint.saved_settings(workdir):
            there = "remove it, and give" if path.exists() else "give"
            raise BadInput(f"{lost}; {there} the train.py command again: it is written anew") from error
        raise BadInput(f"{workdir} is not the workdir of a train.py run: {lost}") from error
    if not _is_config(found):
        raise BadInput(f"{workdir} is not the workdir of a train.py run: {path} was written by something else")
    if DIGEST in found and found[DIGEST] != digest_of_json(found.get("facts")):
        raise BadInput(
            f"{path} is damaged, or was edited: its facts of the training data are others than were written; remove "
            "it, and give the train.py command again: it is written anew"
        )
    return {"facts": {}} | found


def _is_config(found):
    """Whether what was read from a config.json has the parts that everybody looks at, of the types that they have."""
    settings, facts = found.get("config"), found.get("facts", {})
    if not (isinstance(settings, dict) and isinstance(facts, dict) and isinstance(found.get("method"), str)):
        return False
    scheme = settings.get("classes", {"names": [], "ambiguous": -1})
    size = settings.get("voxel_size_nm", [])
    return (
        isinstance(scheme, dict)
        and isinstance(scheme.get("names"), list)
        and all(isinstance(name, str) for name in scheme["names"])
        and isinstance(scheme.get("ambiguous"), int)
        and isinstance(size, list)
        and len(size) in (0, 3)
        and all(isinstance(length, int | float) for length in size)
    )


def write_summary(workdir, settings, facts, summary, verdict=""):
    """model_card.md, and summary.json, written last of all when a run has finished: there = complete. verdict: on a
    refiner, in words and tables.
    """
    device = jax.devices()[0].device_kind
    classes = ", ".join(f"{i} {name}" for i, name in enumerate(settings["classes"]["names"]))
    metrics = "\n".join(f"- {name}: {value:.4g}" for name, value in summary["validation"].items())
    data = "\n".join(f"- {key}: {in_words(value)}" for key, value in facts.items())
    judged = f"\n## Verdict\n\n{verdict}\n" if verdict else ""
    used = "best checkpoint"
    if "member_steps" in summary:
        used = f"members as after the steps {', '.join(map(str, summary['member_steps']))}, each at its own best"
    judged_on = f" on {summary['validated_on']}" if "validated_on" in summary else ""
    made = (
        "The best of {} settings on validation data"
        if "parameters" in summary
        else "Trained with maeref_jax for {} steps"
    )
    write_text(
        epath.Path(workdir) / "model_card.md",
        f"""# {settings["method"]}

{made.format(summary["steps"])}, seed {settings["seed"]}, on {device}.
Classes: {classes}. Window {tuple(settings["window"])} pixels.

## Data

{data}

## Validation{judged_on} ({used})

{metrics}
{judged}
## Use and limits

Use it on images or label maps with these classes and a similar voxel size. It restores what is typical of its training
data: do not use it to count rare events, on pathology it has not seen, or to measure inside repaired voxels without
reporting the hidden share.
""",
    )
    there = [name for name in BESIDE if (epath.Path(workdir) / name).exists()]
    content = {**summary, "device": device, "beside": there}
    write_text(epath.Path(workdir) / "summary.json", json.dumps(content, indent=1))


def lacking(workdir, summary):
    """What a finished workdir had and has not any more, as where it was copied in part: sentences. summary: what its
    summary.json holds.
    """
    workdir, found = epath.Path(workdir), []
    for name in summary.get("beside", ()):  # earlier versions kept no list
        if not (workdir / name).exists():
            found.append(f"{workdir / name} is missing, which was chosen when it was trained; copy the workdir again")
    steps = summary.get("member_steps") or [(summary.get("validation") or {}).get("step")]
    best = max(steps) if all(isinstance(step, int) for step in steps) else None
    if best is not None and (workdir / "checkpoints").is_dir() and not (workdir / "checkpoints" / str(best)).is_dir():
        found.append(
            f"{workdir / 'checkpoints' / str(best)} is missing, the best one as summary.json says, so another model is "
            "used; copy the workdir again, unless it is being trained on"
        )
    return found


def in_words(value):
    """A fact as a model card says it: groups of names and numbers are no code."""
    if not isinstance(value, dict):
        return f"{value:.4g}" if isinstance(value, float) else f"{value}"
    return ", ".join(f"{key}{':' * isinstance(one, dict)} {in_words(one)}" for key, one in value.items())


def write_text(path, text):
    """Write a file whole or not at all; UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path, data):
    """Write a file whole or not at all."""
    temporary = path.parent / f"{path.name}.part"
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:  # of a full disk nothing stays
        temporary.unlink(missing_ok=True)


def lasting(settings):
    """{"group.key": value} of the settings that make a run what it is: all but MAY_CHANGE."""
    return {key: value for key, value in flat(settings).items() if key not in MAY_CHANGE}


def _spelt_out(value):
    """Strings as paths from the root: a path is the same however it was typed, and other strings differ as before."""
    if isinstance(value, list):
        return [_spelt_out(element) for element in value]
    return resolved(value) if isinstance(value, str) else value


def flat(tree, prefix=""):
    """{"a": {"b": 1}} -> {"a.b": 1}"""
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {k: v for name, value in tree.items() for k, v in flat(value, f"{prefix}.{name}".lstrip(".")).items()}
