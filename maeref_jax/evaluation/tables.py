"""The whole protocol on held-out volumes: everything that is counted of one, and every table of all of them."""

from typing import NamedTuple

import numpy as np

from maeref_jax.evaluation import (
    agreement,
    along_z,
    groups,
    measurements,
    plausibility,
    ratings,
    reconstruction,
    sureness,
)
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import validity
from maeref_jax.samples.training_volumes import TrainingVolume


class Counted(NamedTuple):
    """Of one volume. agreement: Judged; the rest are what `count` of the module of that name gives, None where it has
    nothing to say (no refiner, or one that works everywhere, a shift, classes that are not those of mitochondria, no
    condition or voxel size).
    """

    shift: str
    condition: str
    agreement: agreement.Judged
    plausibility: list | None
    along_z: dict | None
    measurements: list | None
    sureness: list | None
    ratings: np.ndarray | None
    reconstruction: dict | None
    features: dict | None


def count(found: Found, models: dict, classes: int, settings: dict) -> Counted:
    """Everything of one volume. models: {name: Model} of refiners, "refined" first, {} without; classes: their number;
    settings: of configs/evaluate.py.
    """
    judged = agreement.judge(found, classes, settings["validity"])
    case = found.case
    # Where nobody knows the truth, no map is looked at: the truth could not be counted alike there.
    known = {name: np.where(case.truth == -1, np.int16(-1), labels) for name, labels in found.maps.items()}
    predicted, found = found.maps["initial"], found._replace(maps=known)
    if not models:
        return Counted(case.shift, case.condition, judged, *(None,) * 7)
    ids = settings["validity"]["classes"]
    meaning = validity.Classes(*ids) if ids else None
    if case.shift:  # only agreement is asked of it
        return Counted(case.shift, case.condition, judged, *(None,) * 7)
    volume = TrainingVolume(case.stem, None, predicted, found.entropy.astype(np.float32) / 255)
    alike, limit = reconstruction.comparable(models), models["refined"].settings.get("train_threshold", 1.0)
    crops = settings["reconstruction"]["crops"]
    table_1 = reconstruction.count(volume, alike, classes, limit, crops, settings["seed"]) if alike and crops else None
    inner = (meaning.cristae, meaning.matrix) if meaning else tuple(range(1, classes))
    return Counted(
        case.shift,
        case.condition,
        judged,
        plausibility.count(found, settings["validity"], classes) if meaning else None,
        along_z.count(found, inner),
        measurements.count(found, meaning) if meaning else None,
        sureness.count(found),
        None if found.rating is None else ratings.count(found),
        table_1,
        groups.features(found, meaning) if meaning and case.condition and case.voxel_size_nm else None,
    )


def tables(counted: list[Counted], class_names: tuple[str, ...], settings: dict, told=agreement.Told()) -> list:
    """Every report.Table that the volumes and settings give. told: agreement.Told."""
    main = [one for one in counted if not one.shift]
    endpoint = settings["endpoint_classes"]
    made = agreement.tables([one.agreement for one in main], class_names, endpoint, told)
    if main[0].sureness is not None:
        made.append(sureness.table([one.sureness for one in main]))
    if main[0].ratings is not None:
        made.append(ratings.table([one.ratings for one in main]))
    if main[0].reconstruction is not None:
        made.append(reconstruction.table([one.reconstruction for one in main]))
    if main[0].plausibility is not None:
        crops = [crop for one in main for crop in one.plausibility]
        cristae = settings["validity"]["classes"][2]
        made.append(plausibility.table(crops, settings["validity"]["least_hidden"], cristae))
        made.append(measurements.table([found for one in main for found in one.measurements]))
    if main[0].along_z is not None:
        ids = settings["validity"]["classes"][2:] or range(1, len(class_names))
        made.append(along_z.table([one.along_z for one in main], [class_names[i] for i in ids]))
    shifts = {one.shift: [] for one in counted}
    for one in counted:
        shifts[one.shift].append(one.agreement)
    if len(shifts) > 1:
        made.append(groups.shift_table({"": shifts.pop(""), **shifts}, endpoint))
    measured = [one for one in main if one.features is not None]
    conditions = sorted({one.condition for one in measured})
    if len(conditions) == 2:
        of = {name: [one.features for one in measured if one.condition == name] for name in conditions}
        made.append(groups.condition_table(of, dict(settings["priors"])))
    return [table for table in made if table]
