"""Tables of what sidecars say of refined volumes: by volume, by class, and against an independent stain."""

from maeref_jax.audit.trust import RATINGS
from maeref_jax.report.table import Table


def volume_table(entries, refined, two_rules) -> Table:
    """entries: refined_volumes.Entry of all inputs; refined: whether there was a refiner; two_rules: whether tokens may
    be hidden for being called ambiguous too.
    """
    rated = any("repairs" in entry.summary for entry in entries if entry.summary)
    rules = ("by entropy", "by “ambiguous”", "by both") * two_rules
    columns = ["voxels", "hidden", *rules, *["relabelled"] * refined, *RATINGS * rated, "status"]
    rows = []
    for entry in entries:
        cells = ["-"] * (len(columns) - 1)
        if found := entry.summary:
            cells = [f"{found['voxels']:,}", f"{found['hidden_share']:.2%}"]
            cells += [f"{tokens:,}" for tokens in found["hidden_tokens"].values()] * two_rules
            cells += [f"{found['changed_voxels'] / found['voxels']:.2%}"] * refined
            cells += _rated(found.get("repairs")) * rated
        rows.append((entry.stem, *cells, entry.trouble or "done"))
    note = f"Hidden{', relabelled' * refined}: share of the voxels."
    note += " By …: tokens that entropy alone, “ambiguous” alone, or both of them hide." * two_rules
    note += rated * (
        " Green, amber, red: how far a repair can be trusted, as shares of the hidden voxels, and behind it the "
        "number of connected pieces; the limits are choices, not calibrated, see STEM_repairs.csv."
    )
    return Table("Volumes", ("volume", *columns), tuple(rows), (), note)


def _rated(repairs) -> list[str]:
    """A cell for each of RATINGS. By voxels: one large red piece is worse than many small green ones are good."""
    total = sum(one["voxels"] for one in repairs.values()) if repairs else 0
    if not total:
        return ["-"] * len(RATINGS)
    return [f"{repairs[name]['voxels'] / total:.1%} ({repairs[name]['blobs']:,})" for name in RATINGS]


def red_share(done) -> float | None:
    """The share of the hidden voxels of all rated volumes that lie in red repairs; None without any."""
    rated = [entry.summary["repairs"] for entry in done if "repairs" in entry.summary]
    total = sum(one["voxels"] for repairs in rated for one in repairs.values())
    return sum(repairs["red"]["voxels"] for repairs in rated) / total if total else None


def inside_share(done) -> float | None:
    """Of the voxels of all volumes, what lies inside the masks of what was worked on; None where none has one."""
    masks = [entry.summary["within"] for entry in done if "within" in entry.summary]
    if not masks:
        return None
    inside = sum(entry.summary["voxels"] for entry in done)
    return inside / (inside + sum(mask["outside"] for mask in masks))


def within_tables(done) -> list[Table]:
    """One Table of what masks of what was worked on left out, none where no volume has one. done: as below."""
    masks = [(entry.stem, entry.summary["within"]) for entry in done if "within" in entry.summary]
    if not masks:
        return []
    rows = []
    for stem, mask in masks:
        blocks, windows = mask["blocks"], mask["segment_windows"]
        lost = f"{mask['foreground_outside']:,}" if "foreground_outside" in mask else "-"
        skipped = f"{windows['all'] - windows['computed']:,} of {windows['all']:,}" if windows["all"] else "-"
        cells = (f"{mask['inside_share']:.2%}", f"{blocks['skipped']:,} of {blocks['all']:,}", skipped, lost)
        rows.append((stem, mask["path"], *cells))
    note = (
        "Inside: share of the voxels, which all other shares are of. Blocks without any of them were skipped, and so "
        "were windows of the segmentation that show none. Dropped: foreground voxels of the given segmentation that "
        "lie outside, and are background now."
    )
    header = ("volume", "mask", "inside", "blocks skipped", "windows skipped", "dropped")
    return [Table("What was worked on", header, tuple(rows), (), note)]


def asked_tables(done) -> list[Table]:
    """One Table of what the refiner made of visible labels that it was asked for, none where it was not asked."""
    asked = [entry for entry in done if "asked" in entry.summary]
    if not asked:
        return []
    rows = []
    for entry in asked:
        found = entry.summary["asked"]
        low, high = found["ahead"]["right"][1:]
        between = "-" if low is None else f"{low:+.1%} … {high:+.1%}"
        rows.append(
            (entry.stem, f"{found['voxels']:,}", *(f"{share:.1%}" for share in found["right"].values()), between)
        )
    note = (
        "Before refining, visible tokens near hidden ones were hidden too and asked back; right are those that became "
        "what they were. Nearest label: each voxel copies the nearest visible one, which takes no learning. Ahead: "
        "refiner minus nearest label, 95 % interval over places. The ensemble itself cannot be compared: its labels "
        "are what was asked for."
    )
    header = ("volume", "voxels asked for", "right: refiner", "nearest label", "commonest class", "ahead")
    return [Table("The refiner, asked for what is known", header, tuple(rows), (), note)]


def class_table(done) -> Table:
    """done: refined_volumes.Entry of every input that is complete."""
    before, after, became = {}, {}, {}
    for entry in done:
        for name, counts in entry.summary["classes_changed"].items():
            before[name] = before.get(name, 0) + counts["voxels_initial"]
            after[name] = after.get(name, 0) + counts["voxels_refined"]
        for name, others in entry.summary["changed"].items():
            for other, voxels in others.items():
                became[name, other] = became.get((name, other), 0) + voxels
    rows = []
    for name in before:
        lost = sum(voxels for (was, _), voxels in became.items() if was == name)
        share = f"{lost / before[name]:.2%}" if before[name] else "-"
        change = f"{after[name] / before[name] - 1:+.2%}" if before[name] else "-"
        into = (f"{became[name, other]:,}" if (name, other) in became else "-" for other in before)
        rows.append((name, f"{before[name]:,}", f"{after[name]:,}", change, share, *into))
    header = ("class", "before", "after", "size", "relabelled", *(f"→ {name}" for name in before))
    note = (
        "Voxels of all volumes together. Size: how much larger or smaller the class is now. Relabelled: the share of "
        "its voxels before that are of another class now; behind it, of which."
    )
    return Table("What changed, by class", header, tuple(rows), (), note)


def witness_tables(done) -> list[Table]:
    """One Table, none where no volume was scored. done: as above."""
    scored = [entry for entry in done if "witness" in entry.summary]
    if not scored:
        return []
    asked, rows = scored[0].summary["witness"], []
    for entry in scored:
        rows.append((entry.stem, *[""] * 5))
        for region, name in (("everywhere", "everywhere"), ("near_hidden", "near hidden tokens")):
            for role, found in entry.summary["witness"][region].items():
                cells = (
                    "-" if found[key] is None else f"{found[key]:.3f}" for key in ("contrast", "auroc", "coverage")
                )
                counts = (f"{found[key]:,}" for key in ("near_voxels", "elsewhere_voxels"))
                rows.append((f"  {name}, {role}", *cells, *counts))
    note = (
        f"Near: within {asked['distance_vx']:g} voxels, in the plane, of the outline of the foreground. Contrast: mean "
        "brightness of the stain near the outline over that elsewhere. AUROC: the chance that a voxel near the outline "
        "is brighter than one elsewhere; 0.5 is none. Coverage: the share of the brightest tenth of the voxels that is "
        "near the outline. Less outline, only where the stain is bright, raises the first two and lowers the last. "
        "Near hidden tokens: voxels within "
        f"{asked['reach_vx']:g} voxels of one. It judges outlines only where the stain marks them."
    )
    header = ("outlines against the stain", "contrast", "AUROC", "coverage", "voxels near", "elsewhere")
    return [Table("Agreement with an independent stain", header, tuple(rows), (), note)]
