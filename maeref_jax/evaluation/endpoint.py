"""The primary endpoint (EVALUATION E1): how far the refined map is ahead of the others, and the result in words."""

import math
from typing import NamedTuple

import numpy as np

from maeref_jax import report
from maeref_jax.metrics import overlap, scores, statistics
from maeref_jax.report.dice_tables import name_of


class Endpoint(NamedTuple):
    """The primary endpoint (EVALUATION E1): name: of the best other repair; refined, other, initial: mean Dice of both,
    and of the map that nobody repaired; difference: Interval of refined minus other, bootstrap over volumes, paired; p:
    of sign flips of the volumes' differences.
    """

    name: str
    refined: float
    other: float
    initial: float
    difference: statistics.Interval
    p: float


def endpoint(found, classes, seed=0):
    """The Endpoint of Scores of every volume; None without a refiner, or where the truth has none of the classes in
    hidden tokens: there a Dice is 0 for whoever invents some, and undefined for whoever is right. classes: ids whose
    Dice is averaged. The best other map is the best on these very volumes, which favours it.
    """
    maps = found[0].confusions["hidden"]
    if "refined" not in maps:
        return None

    def statistic(confusion):
        return overlap.macro_dice(confusion, classes)

    counts = {name: np.stack([one.confusions["hidden"][name] for one in found]) for name in maps}
    dice = {name: statistic(each.sum(0)) for name, each in counts.items()}
    others = [name for name in dice if name not in ("initial", "refined")]
    if not others or not counts["refined"].sum(0)[list(classes)].any():
        return None
    best, refined = max(others, key=dice.get), counts["refined"]
    difference = statistics.difference_interval(refined, counts[best], statistic, seed)
    each = [statistic(a) - statistic(b) for a, b in zip(refined, counts[best], strict=True)]
    reached = dice["refined"], dice[best], dice["initial"]
    return Endpoint(best, *reached, difference, statistics.sign_flip_p(np.array(each), seed))


def comparison(found, classes, seed=0, unit=""):
    """A report.Table: how far the refined map is ahead of each other one, inside hidden tokens (EVALUATION E1).

    found: Scores of every volume; classes: ids whose Dice is averaged; unit: of independence.in_words. Interval:
    bootstrap over volumes, paired. p: sign flips of the volumes' differences. The best competitor stands alone: it is
    the primary endpoint; the other p are Holm-corrected together. None where there is nothing to compare with.
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
        between = "-" if math.isnan(difference.low) else f"[{difference.low:+.3f}, {difference.high:+.3f}]"
        estimate = "-" if math.isnan(difference.estimate) else f"{difference.estimate:+.3f}"
        ahead = sum(statistic(a) > statistic(b) for a, b in zip(refined, counts[name], strict=True))
        p = report.number(float(chances[name] if name == best else corrected[name]))
        cells = (report.number(dice[name]), estimate, between, f"{ahead} of {len(found)}", p)
        rows.append((f"{name_of(name)}{' (best of the others)' if name == best else ''}", *cells))
    header = ("inside hidden tokens", "its Dice", "refined minus it", "95 % interval", "ahead in", "p")
    note = (
        f"Primary endpoint: mean Dice of the classes {', '.join(map(str, classes))}, the refined map "
        f"({report.number(statistic(refined.sum(0)))}) against the best of the others. Interval: paired bootstrap over "
        f"{len(found)} volumes, too narrow for fewer than ten. p: sign flips of the volumes' differences, not below "
        "2 / 2^n with n volumes; that of the best stands alone, the others are Holm-corrected. The best is the best on "
        "these very volumes; Dice is of all volumes together, p and 'ahead in' are of each by itself, but for those "
        "where it is undefined, a dash: where neither truth nor map has any of the classes."
        f"{' ' * bool(unit)}{unit}"
    )
    strong = tuple(row[0] for row in rows if "(best of the others)" in row[0])
    return report.Table("The refined map against every other one", header, tuple(rows), strong, note)


def verdict(found, primary=None, unit=""):
    """The result in a few plain sentences, good or bad; a list of str. found: Scores of all volumes; primary: their
    Endpoint; unit: of independence.in_words.
    """
    if not found.repairs:
        mean = scores.dice_with_mean(found.confusions["all"]["initial"])["mean"]
        return [f"The segmentation alone, no refiner: mean Dice of the foreground classes {mean:.3f} (1 is the truth)."]
    elsewhere = _elsewhere(found)
    if not found.confusions["hidden"]["initial"].sum():
        nothing = "" if found.changed_outside["refined"] else ": there was nothing to repair"
        return [f"No voxel with known truth was hidden{nothing}. {elsewhere}"]
    share = scores.share_of_errors_hidden(found)
    errors = "no error" if math.isnan(share) else f"{share:.0%} of all errors"
    return [
        *_primary(primary, unit),
        _repaired(found),
        f"{_beside_copies(found)} {scores.share_hidden(found):.1%} of the voxels were hidden; they hold {errors}, the "
        "most that any refinement of them could repair.",
        elsewhere,
    ]


def _repaired(found):
    """What became of the hidden tokens: by their Dice, or by counts where the truth has no foreground there."""
    initial, refined = (found.confusions["hidden"][name] for name in ("initial", "refined"))
    repairs = found.repairs["refined"]
    better, worse = repairs["wrong_to_right"], repairs["right_to_wrong"]
    counts = f"{better:,} wrong voxels became right and {worse:,} right ones became wrong"
    if not initial[1:].any():
        left = "The refined map has some there" if refined[:, 1:].any() else "The refined map has none left there"
        net = "repaired more than it broke" if better > worse else "did NOT repair more than it broke"
        return (
            f"In hidden tokens the truth has no foreground, so no Dice score says how good a repair is there. {left}. "
            f"{counts}: the refiner {net}."
        )
    before, after = (scores.dice_with_mean(counts)["mean"] for counts in (initial, refined))
    direction = "rose" if after > before else "did not rise: it went"
    return (
        f"Where the segmentation was unreliable, the mean Dice score of the foreground classes {direction} from "
        f"{before:.3f} to {after:.3f} (1 is the truth). {counts}."
    )


def _elsewhere(found):
    """What became of the rest, which only a refiner that works everywhere changes."""
    outside = found.changed_outside["refined"]
    if not outside:
        return "Outside the hidden tokens no voxel changed."
    dice = (scores.dice_with_mean(found.confusions["all"][name])["mean"] for name in ("initial", "refined"))
    before, after = map(report.number, dice)
    return (
        f"Outside the hidden tokens {outside:,} voxel{'s' if outside > 1 else ''} changed; everywhere, the mean Dice "
        f"of the foreground classes went from {before} to {after}."
    )


def _beside_copies(found):
    """The refined map beside what learns nothing. Of one volume, and without an interval, a number is no more than
    higher or lower.
    """
    copied, refined = (found.confusions["hidden"][name] for name in ("nearest", "refined"))
    if not copied[1:].any():
        wrong, left = overlap.errors(copied), overlap.errors(refined)
        word = "fewer than that" if left < wrong else "as many" if left == wrong else "MORE than that"
        return (
            f"Copying the nearest visible label, which learns nothing, leaves {wrong:,} voxels wrong there; the "
            f"refiner {left:,}, {word}."
        )
    dice, own = (scores.dice_with_mean(counts)["mean"] for counts in (copied, refined))
    word = "higher" if own > dice else "lower" if own < dice else "as high"
    return (
        f"Copying the nearest visible label, which learns nothing, reaches {dice:.3f}; that of the refiner is {word}."
    )


def _primary(primary, unit):
    """The primary endpoint as a sentence."""
    if primary is None:
        return [
            "There is no primary endpoint: in hidden tokens the truth has none of the classes that it compares, so its "
            "Dice is undefined."
        ]
    difference = primary.difference
    between = "" if math.isnan(difference.low) else f", 95 % interval [{difference.low:+.3f}, {difference.high:+.3f}]"
    decided = difference.low > 0 or difference.high < 0  # neither is true of NaN, which one volume has
    word = "not told apart from" if not decided else "better than" if difference.estimate > 0 else "WORSE than"
    number = f"{difference.clusters} volume{'s' if difference.clusters > 1 else ''}"
    higher = primary.initial > primary.other
    untouched = f" (the initial map, which nobody repaired, {primary.initial:.3f})" if higher else ""
    return [
        f"Primary endpoint, Dice inside hidden tokens of the classes compared: the refiner reaches "
        f"{primary.refined:.3f}, the best other way, {name_of(primary.name)}, {primary.other:.3f}{untouched}: "
        f"{difference.estimate:+.3f}{between}, {number}. The refiner is {word} it."
        f"{' ' * bool(unit)}{unit}"
    ]
