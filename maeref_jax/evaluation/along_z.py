"""Along z (EVALUATION E10): do repaired slices hang together, and how many pieces and tunnels are there in 3-D?"""

from collections.abc import Sequence

import numpy as np

from maeref_jax import report
from maeref_jax.evaluation.runs import Found
from maeref_jax.metrics import consistency, topology
from maeref_jax.report.dice_tables import name_of

SHAPE = ("components", "tunnels", "holes")


def count(found: Found, inner: tuple[int, ...]) -> dict:
    """{map: {"flicker": counts inside hidden tokens, "shape": int64 (3,) of the inner part in 3-D}}, the truth with
    them. inner: class ids of the inner part.
    """
    truth = found.case.truth

    def one(labels):
        inside = np.isin(np.where(truth == -1, -1, labels), inner)
        shape = topology.shape_counts(inside, truth != -1)
        return {
            "flicker": consistency.counts(labels, truth, found.hidden),
            "shape": np.array([shape[name] for name in SHAPE]),
        }

    return {name: one(labels) for name, labels in (*found.maps.items(), ("truth", truth))}


def table(counted: list[dict], inner: Sequence[str]):
    """A report.Table of `count` of every volume. inner: names of the classes whose pieces are counted."""
    rows = []
    for name in counted[0]:
        flicker = {key: sum(one[name]["flicker"][key] for one in counted) for key in consistency.COUNTS}
        shape = sum(one[name]["shape"] for one in counted)
        ratios = consistency.flicker(flicker)
        cells = (
            report.number(ratios["flicker"], 2),
            _percent(ratios["false_changes"]),
            report.number(ratios["blinks"], 2),
        )
        rows.append((name_of(name), *cells, *(f"{number:,}" for number in shape)))
    header = (
        "along z",
        "changes / true ones",
        "false changes",
        "blinks / true ones",
        "3-D pieces",
        "tunnels",
        "cavities",
    )
    note = (
        "First three: inside hidden tokens and to the slices beside them; 1 is as in the truth. A false change is a "
        "pair of neighbours along z of two classes where the truth has one; a blink differs from both its neighbours, "
        f"which agree. Last three: of {' and '.join(inner)} together, everywhere, all volumes."
    )
    return report.Table("From slice to slice", header, tuple(rows), ("refined",), note)


def _percent(value):
    return "-" if np.isnan(value) else f"{value:.1%}"
