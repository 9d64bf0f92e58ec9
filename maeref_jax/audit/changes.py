"""What a refinement changed: a record per block, and the tables that their sums make in the sidecar."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from maeref_jax.volumes.volume import UNKNOWN_ON_DISK


def changes(initial: np.ndarray, refined: np.ndarray, confidence: np.ndarray) -> dict[str, list]:
    """Counts of some voxels; arrays uint8 of one shape, as stored.

    Returns:
        "changed": [before, after, voxels, sum of their confidence] for every pair of labels that occurs;
        "labels": [label, voxels before, voxels after].
    """
    where = initial != refined
    pairs = initial[where].astype(np.int64) * 256 + refined[where]
    voxels = np.bincount(pairs, minlength=1)
    sure = np.bincount(pairs, weights=confidence[where], minlength=1)
    before, after = (np.bincount(labels.ravel(), minlength=256) for labels in (initial, refined))
    return {
        "changed": [[*divmod(int(pair), 256), int(voxels[pair]), int(sure[pair])] for pair in np.flatnonzero(voxels)],
        "labels": [[int(i), int(before[i]), int(after[i])] for i in np.flatnonzero(before + after)],
    }


def table(records: Iterable[dict[str, list]], names: Sequence[str]) -> dict[str, Any]:
    """The sums of `changes` over all blocks, by class name.

    Returns:
        "changed_voxels"; "changed": {before: {after: voxels}}; "confidence_of_changes": {before: {after: mean}} in
        [0, 1]; "classes_changed": {name: {"voxels_initial", "voxels_refined", "changed_share"}}, the share being that
        of the initial voxels which are of another class now (None where there were none).
    """
    pairs: dict[tuple[int, int], np.ndarray] = {}
    labels: dict[int, np.ndarray] = {}
    for record in records:
        for before, after, *counts in record["changed"]:
            pairs[before, after] = pairs.get((before, after), np.zeros(2, np.int64)) + counts
        for label, *counts in record["labels"]:
            labels[label] = labels.get(label, np.zeros(2, np.int64)) + counts
    changed: dict[str, dict[str, int]] = {}
    confidence: dict[str, dict[str, float]] = {}
    lost: dict[int, int] = {}
    for (before, after), (voxels, sure) in sorted(pairs.items()):
        was, became = (class_name(names, label) for label in (before, after))
        changed.setdefault(was, {})[became] = int(voxels)
        confidence.setdefault(was, {})[became] = round(float(sure / voxels) / 255, 4)
        lost[before] = lost.get(before, 0) + int(voxels)
    classes = {
        class_name(names, label): {
            "voxels_initial": int(before),
            "voxels_refined": int(after),
            "changed_share": lost.get(label, 0) / int(before) if before else None,
        }
        for label, (before, after) in sorted(labels.items())
    }
    return {
        "changed_voxels": sum(lost.values()),
        "changed": changed,
        "confidence_of_changes": confidence,
        "classes_changed": classes,
    }


def class_name(names: Sequence[str], label: int) -> str:
    """The name of a label as stored."""
    if label == UNKNOWN_ON_DISK:
        return "unknown" if "unknown" not in names else f"unknown ({UNKNOWN_ON_DISK})"  # a class may be called so
    return names[label] if label < len(names) else str(label)
