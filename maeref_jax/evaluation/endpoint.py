"""The primary endpoint (EVALUATION E1): how far the refined map is ahead of the others, and the result in words."""

import math
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.metrics import overlap, scores, statistics
from maeref_jax.report.dice_tables import name_of


class Endpoint(NamedTuple):
    """The primary endpoint (EVALUATION E1): name: of the best other map; refined, other: mean Dice of both; difference:
    Interval of refined minus other, bootstrap over volumes, paired; p: of sign flips of the volumes' differences.
    """

    name: str
    refined: float
    other: float
    difference: statistics.Interval
    p: float


def endpoint(found, classes, seed=0):
    """The Endpoint of Scores of every volume; None without a refiner, or where nothing was hidden. classes: ids whose
    Dice is averaged. The best other map is the best on these very volumes, which favours it.
    """
    maps = found[0].confusions["hidden"]
    if "refined" not in maps:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in found]) for name in maps}
    dice = {name: statistic(each.sum(0)) for name, each in counts.items()}
    known = [name for name in dice if name not in ("initial", "refined") and not math.isnan(dice[name])]
    if not known or math.isnan(dice["refined"]):
        return None
    best, refined = max(known, key=dice.get), counts["refined"]
    difference = statistics.difference_interval(refined, counts[best], statistic, seed)
    each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[best], strict=True)]
    return Endpoint(best, dice["refined"], dice[best], difference, statistics.sign_flip_p(np.array(each), seed))


def comparison(found, classes, seed=0):
    """A report.Table: how far the refined map is ahead of each other one, inside hidden tokens (EVALUATION E1).

    found: Scores of every volume; classes: ids whose Dice is averaged. Interval: bootstrap over volumes, paired. p:
    sign flips of the volumes' differences. The best competitor stands alone: it is the primary endpoint; the other p
    are Holm-corrected together. None where there is nothing to compare with.
    """
    names = [name for name in found[0].confusions["hidden"] if name != "refined"]
    if "refined" not in found[0].confusions["hidden"]:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in found]) for name in (*names, "refined")}
    refined, chances, rows = counts["refined"], {}, []
    dice = {name: statistic(counts[name].sum(0)) for name in names}
    primary = endpoint(found, classes, seed)
    best = primary.name if primary else None
    for name in names:
        each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[name], strict=True)]
        chances[name] = statistics.sign_flip_p(np.array(each), seed)
    others = [name for name in names if name != best]
    corrected = dict(zip(others, statistics.holm(np.array([chances[name] for name in others])), strict=True))
    for name in names:
        difference = statistics.difference_interval(refined, counts[name], statistic, seed)
        between = f"[{difference.low:+.3f}, {difference.high:+.3f}]" if difference.clusters > 1 else "-"
        ahead = sum(statistic(a) > statistic(b) for a, b in zip(refined, counts[name], strict=True))
        p = report.number(float(chances[name] if name == best else corrected[name]))
        cells = (report.number(dice[name]), f"{difference.estimate:+.3f}", between, f"{ahead} of {len(found)}", p)
        rows.append((f"{name_of(name)}{' (best of the others)' if name == best else ''}", *cells))
    header = ("inside hidden tokens", "its Dice", "refined minus it", "95 % interval", "ahead in", "p")
    note = (
        f"Primary endpoint: mean Dice of the classes {', '.join(map(str, classes))}, the refined map "
        f"({report.number(statistic(refined.sum(0)))}) against the best of the others. Interval: paired bootstrap over "
        f"{len(found)} volumes, too narrow for fewer than ten. p: sign flips of the volumes' differences, not below "
        "2 / 2^n with n volumes; that of the best stands alone, the others are Holm-corrected. The best is the best on "
        "these very volumes; Dice is of all volumes together, p and 'ahead in' are of each by itself."
    )
    strong = tuple(row[0] for row in rows if "(best of the others)" in row[0])
    return report.Table("The refined map against every other one", header, tuple(rows), strong, note)


def verdict(found, primary=None):
    """The result in a few plain sentences, good or bad; a list of str. found: Scores of all volumes; primary: their
    Endpoint.
    """
    if not found.repairs:
        mean = scores.dice_with_mean(found.confusions["all"]["initial"])["mean"]
        return [f"The segmentation alone, no refiner: mean Dice of the foreground classes {mean:.3f} (1 is the truth)."]
    dice = {
        name: scores.dice_with_mean(found.confusions["hidden"][name])["mean"]
        for name in ("initial", "nearest", "refined")
    }
    if math.isnan(dice["initial"]):
        return ["No voxel with known truth was hidden: there was nothing to repair, and nothing was changed."]
    repairs = found.repairs["refined"]
    direction = "rose" if dice["refined"] > dice["initial"] else "did not rise: it went"
    better, worse = repairs["wrong_to_right"], repairs["right_to_wrong"]
    first = (
        f"Where the segmentation was unreliable, the mean Dice score of the foreground classes {direction} from "
        f"{dice['initial']:.3f} to {dice['refined']:.3f} (1 is the truth). {better:,} wrong voxels became right and "
        f"{worse:,} right ones became wrong."
    )
    compared = "the refiner is better than that" if dice["refined"] > dice["nearest"] else "the refiner is NOT better"
    second = (
        f"Copying the nearest visible label, which learns nothing, reaches {dice['nearest']:.3f}: {compared}. "
        f"{scores.share_hidden(found):.1%} of the voxels were hidden; they hold "
        f"{scores.share_of_errors_hidden(found):.0%} of all errors, the most that any refinement could repair."
    )
    outside = found.changed_outside["refined"]
    return [
        *_primary(primary),
        first,
        second,
        f"Outside the hidden tokens {outside or 'no'} voxel{'s' if outside > 1 else ''} changed.",
    ]


def _primary(primary):
    """The primary endpoint as a sentence, if there is one."""
    if primary is None:
        return []
    difference = primary.difference
    between = f", 95 % interval [{difference.low:+.3f}, {difference.high:+.3f}]" if difference.clusters > 1 else ""
    decided = difference.clusters > 1 and (difference.low > 0 or difference.high < 0)
    word = "not told apart from" if not decided else "better than" if difference.estimate > 0 else "WORSE than"
    number = f"{difference.clusters} volume{'s' if difference.clusters > 1 else ''}"
    return [
        f"Primary endpoint, Dice inside hidden tokens of the classes compared: the refiner reaches "
        f"{primary.refined:.3f}, the best other way, {name_of(primary.name)}, {primary.other:.3f}: "
        f"{difference.estimate:+.3f}{between}, {number}. The refiner is {word} it."
    ]
