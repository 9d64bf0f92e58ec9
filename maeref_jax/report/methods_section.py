"""A paragraph for the methods section of a paper, from plain values; and what to cite."""

CITATION = (
    "A. Sauer, Y. Tian, J. Bewersdorf, J. Rittscher: Refining Biologically Inconsistent Segmentation Masks with Masked "
    "Autoencoders. IEEE/CVF Conference on Computer Vision and Pattern Recognition Workshops (CVMI), 2024."
)
# How the method of a workdir is called in a sentence.
REFINERS = {
    "mae": "a masked autoencoder",
    "mae_image": "a masked autoencoder that sees the image as well",
    "autoencoder": "a convolutional autoencoder",
    "inpainter": "a convolutional inpainting network",
    "crf": "a fully connected conditional random field (Krähenbühl & Koltun, 2011)",
    "nearest": "copies of the nearest visible label",
    "unrefined": "taking the likeliest class",
    "morphology": "morphological filters",
    "continuity": "morphology along z (published with arXiv 2206.02392)",
    "continuity_network": "a U-Net that sees adjacent slices (published with arXiv 2206.02392)",
    "corrector": "a U-Net that has learned from the segmentation's mistakes",
}
# The same of segmenters that are no ensembles.
RULES = {"texture": "a vote on measures of texture with Otsu's thresholds (Otsu, 1979)"}
# What they fill in from; all others from the visible labels.
SOURCES = {
    "mae_image": "the visible labels around them and the image",
    "autoencoder": "the labels around them, hidden ones included,",
    "crf": "the class probabilities and the image",
    "continuity": "the labels of the slices above and below",
    "continuity_network": "the labels around them, in the slices above and below as well,",
    "unrefined": "the segmentation's own class probabilities",
    "corrector": "the segmentation's own class probabilities, in the slices above and below as well,",
}
# Where doubt comes from: entropy.KINDS of an ensemble, or what a user brought along.
DOUBTS = {
    "mean": "the entropy of the members' mean class probabilities (over the logarithm of the number of classes)",
    "votes": "the entropy of the members' votes (over the logarithm of the number of classes)",
    "mutual_information": "the mutual information of label and member (over the logarithm of the number of classes)",
    "given": "the entropy that came with the segmentation",
    "painted": "a mask painted by hand",
    "damage": "the mask of these regions",
    "error": "the gain that a network expects which has learned from the segmentation's mistakes: the probability of "
    "the likeliest class minus that of the label",
}

# What of the repairs was given its labels back (jobs.Settings.leave).
LEFT = {"red": "repairs rated red", "flagged": "hidden voxels of objects that the rules flag"}
MASKS = ("painted", "damage")  # of DOUBTS, what is no measure
NOTHING = "nothing"  # no doubt was given: a refiner that works everywhere needs none
BESIDE = " and painted"  # behind one of these: a painted mask beside it


def methods_paragraph(
    *,
    volumes,
    hidden_share,
    doubt,
    threshold,
    ambiguous_threshold,
    token,
    classes,
    versions,
    voxel_size_nm=None,
    file_voxel_size_nm=None,
    segmented_by="",
    members=None,
    refiner="",
    parameters=None,
    changed_share=None,
    agreeing_slices=0,
    caution=1.0,
    everywhere=False,
    labelled_slices=0,
    inside_share=None,
    left=(),
):
    """What was done, ready to be pasted; a str in which everything is a number that was used.

    volumes: how many. hidden_share, changed_share: of all their voxels, 0 … 1; None where nothing was refined.
    inside_share: of their voxels, what lay inside a mask of what was worked on, which these shares are of; None without
    one.
    everywhere: whether the refiner replaced all voxels, not hidden ones alone; labelled_slices: how many it was given,
    which stayed as they were. left: names of LEFT, what of the repairs was not made.
    doubt: one of DOUBTS, or one of them and BESIDE, or NOTHING. threshold: above which the mean doubt of a token hides
    it, 0 … 1; ambiguous_threshold: the same of the mean probability of an "ambiguous" class, None where there is
    none. token: its side in voxels.
    classes: names. versions: {library: version}. voxel_size_nm: (z, y, x), None where unknown or various;
    file_voxel_size_nm: of the files, where they were resampled to that and the result brought back, else None.
    segmented_by: the segmentation's origin in words, such as "an ensemble of U-Nets"; members: of the ensemble.
    agreeing_slices: above and below a voxel (slices.py), the most of any volume, 0 for none.
    caution: how many times as likely as a label another one had to be to replace it, 1 where that was not asked.
    refiner: a method of REFINERS or in words, "" for none; parameters: how many it has learned, None for none.
    """
    many = f"{volumes} volume{'s were' if volumes != 1 else ' was'}"
    size = f" (voxels of {_lengths(voxel_size_nm)} nm, z y x)" if voxel_size_nm else ""
    by = segmented_by or "a segmentation of our own"
    by += f" with {members} members" if members else ""
    names = ", ".join(classes)
    sentences = [f"{many} segmented into {names}{size} by {by}." if names else f"{many} segmented by {by}{size}."]
    if inside_share is not None:
        sentences.append(
            f"Only the inside of a mask, {inside_share:.2%} of the voxels, was processed, and all shares are of this; "
            "what lay outside was taken as background."
        )
    if file_voxel_size_nm:
        sentences.append(
            f"They were resampled to that voxel size from {_lengths(file_voxel_size_nm)} nm, and the result was "
            "brought back to the voxels of the files, labels by the nearest voxel."
        )
    verb = f"{'hidden' if refiner else 'called unreliable'} (as by Sauer et al., CVPR Workshops 2024)"
    verb, sign = ("hidden", "") if doubt == "error" else (verb, "τ = ")
    if doubt in MASKS:
        sentences.append(f"Square tokens of {token} × {token} voxels that {DOUBTS[doubt]} touches were {verb}.")
    elif doubt != NOTHING:
        ambiguous = ambiguous_threshold is not None
        also = f", or their mean probability of “ambiguous” {ambiguous_threshold:g}" if ambiguous else ""
        also += f", or where {DOUBTS['painted']} touched them" if doubt.endswith(BESIDE) else ""
        sentences.append(
            f"Reliability was judged by {DOUBTS[doubt.removesuffix(BESIDE)]}, on a scale from 0 to 1: square tokens of "
            f"{token} × {token} voxels were {verb} where its mean exceeded {sign}{threshold:g}{also}."
        )
    shares = f"{hidden_share:.2%} of the voxels were hidden" if refiner else f"{hidden_share:.2%} of the voxels were"
    if refiner:
        learned = f" with {_count(parameters)} parameters" if parameters else ""
        what = REFINERS.get(refiner, refiner)
        source = SOURCES.get(refiner, "the visible labels around them")
        changed = f"{changed_share:.2%} got another label"
        but = f" but those of {labelled_slices} labelled slices" if labelled_slices else ""
        nearest = f"{agreeing_slices} nearest slices" if agreeing_slices > 1 else "nearest slice"
        agree = f", in agreement with the {nearest} above and below" if agreeing_slices else ""
        agree += f", where another label was at least {caution:g} times as likely" if caution > 1 else ""
        if everywhere:
            known = "" if doubt == NOTHING else f"; {shares}, and seen as well"
            also = " and of the labelled ones," if labelled_slices else ""
            sentences.append(
                f"All voxels{but} were replaced, from {source}{also} by {what}{learned}; {changed}{known}."
            )
        else:
            filled = f"They were filled in from {source} by {what}{learned}{agree}; {shares} and {changed}."
            names = " and ".join(LEFT[name] for name in left)
            given_back = f" {names[0].upper()}{names[1:]} got their labels back." if left else ""
            sentences.append(f"{filled}{given_back} All other voxels were left as they were.")
    else:
        sentences.append(f"{shares} unreliable by this rule; none was changed.")
    software = ", ".join(f"{library} {version}" for library, version in versions.items())
    return " ".join([*sentences, f"Software: {software}."])


def _lengths(size):
    return " × ".join(f"{side:g}" for side in size)


def _count(number):
    if number < 1e4:
        return f"{number:,}"
    return f"{number / 1e6:.1f} million" if number >= 1e6 else f"{round(number / 1e3):,} thousand"
