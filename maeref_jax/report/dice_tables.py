"""Tables of Dice by region and of repairs, which judging at the end of training and evaluate share."""

from maeref_jax.report.table import Table, number

REGIONS = {"hidden": "inside hidden tokens", "low_signal": "inside low-signal regions", "all": "everywhere"}
# Names of label maps, in the order of the tables; others are called by their workdirs.
NAMES = {"initial": "initial", "nearest": "nearest visible label", "refined": "refined"}


def name_of(label_map):
    """What a label map is called in tables."""
    return NAMES.get(label_map, label_map)


def dice_table(dice, class_names, note, title="Agreement with the truth"):
    """A Table. dice: {one of REGIONS: {label map: {"mean": float, class: float}}}, as of `scores.dice_with_mean`;
    class_names: background first.
    """
    rows = []
    for region, maps in dice.items():
        rows.append((REGIONS[region], *[""] * len(class_names)))
        rows += [(f"  {name_of(name)}", *map(number, values.values())) for name, values in maps.items()]
    header = ("Dice, 1 = identical to the truth", "mean", *class_names[1:])
    return Table(title, header, tuple(rows), ("refined",), note)


def repair_table(repairs):
    """A Table. repairs: {label map: counts of `overlap.repairs`}."""
    kinds = tuple(next(iter(repairs.values())))
    header = ("voxels inside hidden tokens", *(name.replace("_to_", " → ").replace("_", " ") for name in kinds))
    rows = tuple((name_of(name), *(f"{counts[kind]:,}" for kind in kinds)) for name, counts in repairs.items())
    return Table("What was repaired, and what was broken", header, rows, ("refined",))
