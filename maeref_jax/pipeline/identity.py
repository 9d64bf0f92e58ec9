"""What decides about a result: who comes back with something else is told what differs, and nothing is mixed."""

import hashlib
import json

import jax
import numpy as np

from maeref_jax.audit.trust import Limits
from maeref_jax.pipeline.jobs import Model, keeps_probabilities
from maeref_jax.training.workdir import lasting
from maeref_jax.volumes.volume import Volume

_NEWER = ("labelled_slices", "keep_probabilities", "gain")  # which earlier versions had not
# Settings that decide nothing about the result.
_HOW = ("overwrite", "num_parts", "part_id", "wait_minutes", "export", "strict", "ask")


def identity(job, volumes, segmenter, refiner, settings) -> dict:
    """What decides about the result, as JSON: another one of these means another output."""
    return {
        "format": 3,
        "inputs": {name: volume.identity() | _size_of(volume) for name, volume in volumes.items()},
        "segmenter": segmenter and _model_identity(segmenter),
        "refiner": refiner and _model_identity(refiner),
        "members": job.members,
        "settings": {
            name: value._asdict() if isinstance(value, Limits) else value
            for name, value in settings._asdict().items()
            # Of models the names are a check alone.
            if name not in _HOW
            and (name != "classes" or not (segmenter or refiner))
            and (name not in _NEWER or not (value is None or value is False or value == ()))
        },
        **_agreement(refiner, settings),
    }


def _agreement(refiner, settings) -> dict:
    """How slices agree where earlier versions took visible voxels as certain, so that none of theirs is continued."""
    by_entropy = refiner and settings.agree_within_nm and not keeps_probabilities(refiner)
    return {"slices_agree": "as surely as their entropy says"} if by_entropy else {}


def _size_of(volume: Volume) -> dict:
    """The voxel size as it was read, or given."""
    size = volume.voxel_size_nm
    return {"voxel_size_nm": [float(length) for length in size] if size else None}


def _model_identity(model: Model) -> dict:
    """Method and digests, not the path: a workdir may be moved, and may be trained further under the same path."""
    leaves, structure = jax.tree.flatten((model.params, model.state))
    digest = hashlib.sha256(str(structure).encode())
    for leaf in leaves:
        digest.update(np.ascontiguousarray(leaf).tobytes())
    config = hashlib.sha256(json.dumps(lasting(model.settings), sort_keys=True).encode()).hexdigest()
    found = {"method": model.name, "config_sha256": config[:16], "parameters_sha256": digest.hexdigest()[:16]}
    found |= {"temperatures": list(model.calibration.temperatures)} if model.calibration else {}
    # Other parameters under the same path: who is told that they differ should see why.
    found |= {"damaged_checkpoints": list(model.damaged)} if model.damaged else {}
    return found | ({"hidden_by": _model_identity(model.judge)} if model.judge else {})
