"""The files of every input, opened before the first second is spent on networks; what fails with one of several."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.commands import command_line, nnunet, usage, within_auto
from maeref_jax.commands.requests import Request, fill_in, leading_path, read_table, requests_of, with_masks
from maeref_jax.commands.system_errors import explained
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.results.output import check_stem
from maeref_jax.volumes.class_scheme import scheme_of_names
from maeref_jax.volumes.dataset import Given, given_of, met
from maeref_jax.volumes.formats.store import is_url
from maeref_jax.volumes.volume import Volume
from maeref_jax.volumes.within import AUTO


class Opened(NamedTuple):
    """One input. volumes: by role as in jobs.Job, "probabilities" a tuple; witness: the stain of --witness, if any;
    doubts: as of Request.
    """

    stem: str
    volumes: dict[str, Any]
    witness: Volume | None
    doubts: tuple[str, ...] = ()


@contextmanager
def one_of_several(stem: str, failed: dict[str, str], several: bool) -> Iterator[None]:
    """What fails with one input is told, noted in `failed` by its stem, and does not stop the others. What a user can
    mend is raised where it is the only input.
    """
    try:
        yield
    except (BadInput, CannotGoOn) as error:
        if not several:
            raise
        fail(stem, error, failed)
    except Exception as error:
        # Of the file system: a full disk, one that is gone or must not be written to. Anything else is our own mistake.
        reason = explained(error) or (str(error) if isinstance(error, OSError) else None)
        if reason is None:
            raise
        fail(stem, reason, failed)


def fail(stem: str, error: Exception | str, failed: dict[str, str]) -> None:
    failed[stem] = str(error)
    print(f"error: {stem}: {error}", file=sys.stderr)


def find_requests(config) -> tuple[list[Request], dict[str, str]]:
    """One Request per input, and what is wrong with rows of a batch, by stem or line."""
    if config.batch_table:
        found, wrong = read_table(config.batch_table, bool(config.ensemble), usage.works_everywhere(config))
    elif config.nnunet:
        found, wrong = _nnunet_requests(config)
    else:
        roles = {role: config[role] for role in ("labels", "entropy", "hidden", "probabilities")}
        found, wrong = requests_of(config.input, **roles), {}
    return with_masks(found, config.within), wrong


def _nnunet_requests(config) -> tuple[list[Request], dict[str, str]]:
    """What --nnunet names. Without a trained refiner and --classes the classes are what dataset.json calls them."""
    scheme = scheme_of_names(config.classes) if config.classes else None
    if command_line.is_workdir(config.refiner):
        from maeref_jax.training.workdir import read_config

        scheme = read_config(config.refiner)["config"]["classes"]
    found, wrong, names = nnunet.find(config.nnunet, config.input, config.channel, scheme, config.label_map)
    if scheme is None:
        config.classes = names
    return found, wrong


def open_all(requests: list[Request], config, failed: dict[str, str], several: bool) -> list[Opened]:
    """What can be opened of the requests; a worker opens only the one that it works on."""
    opened = []
    for request in requests:
        if config.serve not in ("", request.stem):
            continue
        with one_of_several(request.stem, failed, several):
            check_stem(request.stem)
            volumes, witness = open_request(request, config), None
            if config.witness and not config.serve:
                witness = open_witness(request, config, volumes, several)
            doubts = request.doubts
            if request.paths.get("within") == AUTO:
                doubts += within_auto.doubts(request.stem, config)
            opened.append(Opened(request.stem, volumes, witness, doubts))
    return opened


def given_for(request: Request, config) -> Given:
    """What a row of the table, or else a flag, says of the files of an input."""
    given = given_of(config)
    return given._replace(axes=request.axes or given.axes, voxel_size_nm=request.voxel_size_nm or given.voxel_size_nm)


def open_request(request: Request, config) -> dict[str, Any]:
    """The request's Volumes by role."""
    given = given_for(request, config)
    if config.nnunet:  # whose channels are files of their own
        given = given._replace(channel=None)
    apart = ("probabilities", "within")
    volumes = {role: given.open(path, role) for role, path in request.paths.items() if role not in apart}
    as_stored = given._replace(at_voxel_size_nm=None)
    probabilities = map(as_stored.open_probabilities, request.paths.get("probabilities", ()))
    if config.nnunet:
        probabilities = (nnunet.understood(volume, request.classes) for volume in probabilities)
    volumes |= {"probabilities": tuple(given.brought(volume, "probabilities") for volume in probabilities)}
    volumes = met(volumes) if given.at_voxel_size_nm else volumes
    if request.paths.get("within") == AUTO:
        mask = within_auto.mask_of(request.stem, volumes, config)
        return volumes if mask is None else volumes | {"within": mask}
    if "within" in request.paths:
        volumes["within"] = given.open_mask(request.paths["within"], all_of(volumes)[0])
    return volumes


def open_witness(request: Request, config, volumes: dict[str, Any], several: bool) -> Volume:
    """The stain of --witness: a channel of the request's image, or the file that belongs to the input."""
    from maeref_jax.audit import stain

    said, given = config.witness, given_for(request, config)
    if "{" in said or is_url(said) or len(Path(said).parts) > 1 or Path(said).suffix or Path(said).exists():
        found = given.open(fill_in(said, "witness", leading_path(request.paths), several), "witness")
    elif "image" not in request.paths:
        raise BadInput(f"--witness {said} is no file, so it is a channel of the image; give --input, or a path")
    else:
        channel = int(said) if said.isdecimal() else said
        found = given._replace(channel=channel).open(request.paths["image"])
    stain.check(found, all_of(volumes)[0].shape, config.witness_distance_vx, config.witness_reach_vx)
    return found


def all_of(volumes: dict[str, Any]) -> list[Volume]:
    """The Volumes of one input, whatever their role."""
    return [volume for found in volumes.values() for volume in (found if isinstance(found, tuple) else (found,))]
