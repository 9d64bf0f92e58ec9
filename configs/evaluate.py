"""The truth about a refinement, on volumes that neither model has seen.

    python evaluate.py --config configs/evaluate.py --workdir runs/evaluate

Expects the ensemble in WORKDIR/ensemble and the refiner in WORKDIR/mae (or --config.ensemble=DIR --config.refiner=DIR),
refines held-out phantoms, prints the tables and writes WORKDIR/report.html, WORKDIR/summary.json and, as TIFF stacks,
WORKDIR/held_out. Minutes on 2 CPU cores with the models of the `:demo` configs. Modes:

    :demo     one phantom, for `make demo`; under a minute
    :small    all competitors and four shifts on three small phantoms, for `make evaluate`
    :smoke    seconds, for models trained with `:smoke`
    :uncertainty  the ensemble alone, WORKDIR/ensemble: members against their mean, whether entropy knows of errors, and
                  how it rises where the signal of 100 mitochondria is taken away; minutes
    :phantom  needs no models: how real the phantoms are, beside real labels (MAEREF_DATA) and the paper's control group
    :rendered     the primary endpoint: all refiners on rendered real shapes, six mitochondria that no model has seen;
                  needs runs/rendered (configs/render_mef_cristae.py, docs/evaluation.md)
    :rendered_validation  the same on the two validation mitochondria, to choose what the test will judge
    :rendered_validation_wide  those two rendered once more, with regions of low signal as wide as in the test
    :rendered_conditions  the six of :rendered, refined by priors of one condition alone
    :urocell      rendered organelles of a box that no model has seen, four slabs of it; needs runs/urocell
                  (configs/render_urocell.py); :urocell_validation the same on slabs of another box, which has no Golgi
    :places       where the ensemble is wrong, WORKDIR/ensemble: errors caught by hidden area, tokens ranked by entropy
                  and whatever else knows of errors; of any other mode with --config.task=places; minutes
    :mef_cristae  a refiner of configs/mae_mef_cristae.py on the held-out NI_m6 with regions taken away; no ensemble:
                  MAEREF_DATA=FOLDER python evaluate.py --config configs/evaluate.py:mef_cristae --workdir runs/mef_test
                  --config.refiner=runs/mef
    :vnc_sstem    an ensemble of configs/ensemble_vnc_sstem.py on the held-out slices 10-13; no refiner: the same with
                  --config.ensemble=runs/vnc; with --config.task=uncertainty its members and its entropy
    :epfl_every5  the same for configs/ensemble_epfl_hippocampus.py, images 25-32 (Dice and IoU)
    :epfl_hippocampus  every stage of configs/spatial_continuity.py, by number of labelled slices (runs/scm, or
                  --config.continuity.folder), on the held-out slices 150-164 of the training stack and, where
                  testing_half.tif and testing_half_groundtruth.tif lie beside it, on the test stack
    :sparse       every segmenter in a folder, runs/clicks_judged/phantoms or --config.sparse.folder, on phantoms that
                  benchmarks/clicks.py trains none of them on; other volumes as below
    :tissue       masks of tissue: a network of configs/tissue.py (runs/tissue) beside texture's votes, local entropy
                  and difference of Gaussians, on blocks whose truth is known, drawn and of real texture
    :tissue_small the same with the network of configs/tissue.py:small (runs/tissue_small); 10 minutes
    :tissue_smoke the same in seconds, without real texture and without a network

Where the public data of epfl_hippocampus, mef_cristae and vnc_sstem are, their configs say; MAEREF_DATA names the
folder that holds them.

Your own volumes instead of phantoms: --config.phantom.seeds= --config.files.truths="('labels.tif',)" and
--config.files.images="('image.tif',)". Labels of other people's making instead of an image: files.labels with
files.entropy or files.hidden. Real labels without anything else: --config.files.damage=20 takes regions away (so many
per million voxels) and asks for them back.
"""

import os

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import judged_tissue, rendered, urocell
from configs.defaults import public, trust

MODES = (
    "",
    "demo",
    "small",
    "smoke",
    "uncertainty",
    "phantom",
    "rendered",
    "rendered_validation",
    "rendered_validation_wide",
    "rendered_conditions",
    "urocell",
    "urocell_validation",
    "places",
    "mef_cristae",
    "vnc_sstem",
    "epfl_every5",
    "epfl_hippocampus",
    "sparse",
    "tissue",
    "tissue_small",
    "tissue_smoke",
)
# Dice / IoU on the test stack at full resolution, with 32 labelled slices where nothing else is said.
PUBLISHED = {
    "U-Net": "90.5 / 82.6",
    "+ affine, piecewise affine": "92.5 / 86.9",
    "+ morphology along z": "93.6 / 88.0",
    "+ network": "94.2 / 89.0",
    "2-D U-Net, 165 labelled": "91.4 / 84.4",
    "3-D U-Net, 165 labelled": "93.5 / 87.7",
}
# Of other ensembles: the same with low-signal augmentation, and one of another seed.
OTHER_ENSEMBLES = ("ensemble_low_signal", "ensemble_other")
COMPETITORS = ("inpainter", "denoising", "autoencoder", "mae_image", "crf", "morphology", "unrefined")
Z_PLANES = ("NI_m1", "NI_m2", "NI_m3", "NI_m4", "NI_m5", "NI_m6", "8hpi_m1", "8hpi_m2", "8hpi_m3", "8hpi_m5")
Y_PLANES = ("8hpi_m4", "8hpi_m6")
MEF_LABEL_MAP = ((0, 0), (1, 3), (2, 2), (3, 1))


def get_config(mode):
    config = ConfigDict(
        {
            "task": "refinement",
            "ensemble": "",  # workdir; empty: WORKDIR/ensemble
            "refiner": "",  # workdir; empty: WORKDIR/mae; "none": judge the segmentation alone
            # What says which tokens are hidden: entropy; error: the refiner, a corrector; or a corrector's workdir.
            "hide_by": "entropy",
            "judges": (),  # workdirs of correctors; task "places" judges the error that they expect beside entropy
            # Workdirs of other refiners (docs/refiners.md), which fill in the very same tokens, and of other
            # ensembles, whose own labels are put there.
            "competitors": (),
            "other_ensembles": (),
            # Pairs (condition, competitor that learned from it alone), of both files.conditions: does the prior of one
            # erase what is special in the other?
            "priors": (),
            "as_published": True,  # competitors made for whole crops also redo everything
            "controls": True,  # the refiner is let loose on random tokens, and on those with true errors
            "reconstruction": {"crops": 16},  # of every volume, for Table 1; 0 for none
            "seed": 0,
            # Names of the models' classes, background first, to check them; () takes them as they are.
            "classes": (),
            # Whose Dice is averaged to compare: (): cristae and matrix, or without these all classes but the first.
            "endpoint_classes": (),
            # Judge on what the models were validated on: to choose among them, never to report.
            "on_validation": False,
            "pictures": 3,
            "figures": True,  # those of the paper, on these volumes
            # Task "uncertainty": so many mitochondria of phantoms of these seeds have their signal taken away.
            "fading": {"mitochondria": 100, "seeds": tuple(range(200, 240))},
            # Held out: training and validation use seeds below 100.
            "phantom": {
                "seeds": (100, 101, 102, 103),
                "shape": (32, 256, 256),
                "voxel_size_nm": (20.0, 10.0, 10.0),  # of the models' training volumes
                # Each phantom once more with: blur, bleaching, stripes, defocus, dense cristae, thick cristae.
                "shifts": (),
            },
            "files": {
                "truths": (),
                "images": (),
                "labels": (),
                "entropy": (),
                "hidden": (),
                "low_signal": (),
                "within": (),  # a mask for each truth, such as tissue, "" for none: outside nothing is judged
                "shifts": (),  # what no training volume had, one for each truth, "" for none
                "conditions": (),  # of the biology, one for each truth
                "damage": 0.0,  # regions taken away per million voxels; 0 for none
                # What ids in the truth files mean: pairs (id in the file, class), instances, or identity; and the same
                # of files.labels. (): as is plain.
                "label_map": (),
                "labels_label_map": (),
                "shell_class": -1,  # derive this class as the outermost shell_vx voxels of the foreground
                "shell_vx": 0.0,
                "axes": "",
                "voxel_size_nm": (),
                "at_voxel_size_nm": (),  # that they are read at, whatever their own
                "channel": placeholder(str),  # of files that have several: index from 0, or name
                **trust(),
            },
            # thresholds none: as the refiner was trained; 0.4 and 0.5 without a refiner
            "refine": {
                "threshold": placeholder(float),
                "ambiguous_threshold": placeholder(float),
                "gain": placeholder(float),  # where hide_by is not entropy; none: as it was chosen in training
                "agree_within_nm": placeholder(float),  # of all refiners alike; none: of each as in configs/refine.py
                "overwrite": True,
            },
            "validity": {
                # Ids of background, intermembrane, cristae, matrix; none: where the classes are called so; (): nowhere.
                "classes": placeholder(tuple),
                "size": 128,  # of the crops, in voxels
                "min_foreground": 0.3,
                "slice_step": 1,
                "least_hidden": 0.1,  # crops with at least this share hidden are compared with the others
            },
        }
    )
    if mode == "demo":
        config.phantom.update({"seeds": (100,), "shape": (24, 256, 256), "voxel_size_nm": (12.0, 6.0, 6.0)})
    if mode == "smoke":
        config.phantom.update({"seeds": (100,), "shape": (8, 96, 96)})
        config.validity.update({"size": 64, "min_foreground": 0.1})
        config.pictures = 1
        config.refine.threshold = 0.4  # a refiner of :smoke has 1, at which nothing would be hidden
    if mode == "small":
        config.phantom.update({"seeds": (100, 101, 102), "shape": (8, 144, 144), "voxel_size_nm": (12.0, 6.0, 6.0)})
        config.phantom.shifts = ("blur", "stripes", "dense cristae", "thick cristae")
        names = ("mae_image", "inpainter", "denoising", "crf", "morphology", "unrefined")
        config.competitors = tuple(os.path.join("runs", "evaluate", name) for name in names)
        config.reconstruction.crops = 8
    if mode in ("demo", "smoke"):
        config.update({"as_published": False, "controls": mode == "smoke"})
        config.reconstruction.crops = 0 if mode == "demo" else 2
    if mode.startswith("rendered"):
        config.on_validation = mode.startswith("rendered_validation")
        split = mode.removeprefix("rendered_") if config.on_validation else "test"
        config.ensemble, config.refiner = rendered.ENSEMBLE, os.path.join(rendered.FOLDER, "mae")
        config.competitors = tuple(os.path.join(rendered.FOLDER, name) for name in COMPETITORS)
        config.other_ensembles = tuple(os.path.join(rendered.FOLDER, name) for name in OTHER_ENSEMBLES)
        if mode == "rendered_conditions":
            config.priors = (("NI", "mae_NI"), ("8hpi", "mae_8hpi"))
            config.competitors = tuple(os.path.join(rendered.FOLDER, name) for _, name in config.priors)
            config.other_ensembles = ()
        config.phantom.seeds = ()
        truths, images, low_signal = (rendered.paths(split, role) for role in ("truth", "image", "low_signal"))
        config.files.update({"truths": truths, "images": images, "low_signal": low_signal})
        config.files.conditions = tuple(name.partition("_")[0] for name in rendered.SPLITS[split])
        config.validity.min_foreground = 0.15  # of a crop; every volume holds but one mitochondrion
        # Most voxels net right in either validation volume, refine.py --suggest_threshold.
        config.refine.threshold = 0.65
    if mode.startswith("urocell"):
        config.on_validation = mode == "urocell_validation"
        split = "validation" if config.on_validation else "test"
        config.ensemble, config.refiner = urocell.ENSEMBLE, os.path.join(urocell.FOLDER, "mae")
        config.competitors = tuple(os.path.join(urocell.FOLDER, name) for name in COMPETITORS)
        config.phantom.seeds = ()
        truths, images, low_signal = (urocell.paths(split, role) for role in ("truth", "image", "low_signal"))
        config.files.update({"truths": truths, "images": images, "low_signal": low_signal})
        # There is no Golgi to be right about in the validation box.
        config.endpoint_classes = (1, 2, 3) if config.on_validation else (1, 2, 3, 4)
    if mode in ("uncertainty", "places"):
        config.task = mode
        config.phantom.update({"seeds": tuple(range(100, 104)), "shape": (24, 256, 256)})
        config.phantom.voxel_size_nm = (12.0, 6.0, 6.0)
    if mode == "places":
        config.refiner = "none"
    if mode == "phantom":
        config.task = "phantoms"
        folder = public("mef_cristae")
        config.real = {
            # By the plane of the two long axes; the other planes cut the mitochondria across.
            "z_planes": tuple(os.path.join(folder, f"{name}_label.tif") for name in Z_PLANES),
            "y_planes": tuple(os.path.join(folder, f"{name}_label.tif") for name in Y_PLANES),
            "axes": "ZYX",
            "pixel_nm": 5.0,
            "min_foreground": 0.1,  # of a crop; every volume holds but one mitochondrion
            "steps": (1, 2),  # at its own pixel size, and at that of the phantoms
            "label_map": MEF_LABEL_MAP,
            "shell_class": 1,
            "shell_vx": 6.0,
        }
    if mode == "mef_cristae":
        config.phantom.seeds = ()
        config.files.update({"truths": (os.path.join(public("mef_cristae"), "NI_m6_label.tif"),), "damage": 20.0})
        config.files.update({"label_map": MEF_LABEL_MAP, "shell_class": 1, "shell_vx": 6.0})
        config.files.update({"axes": "ZYX", "voxel_size_nm": (5.0, 5.0, 5.0)})
    if mode == "epfl_hippocampus":
        config.task, config.phantom.seeds = "continuity", ()
        config.continuity = {
            # Workdirs FOLDER/N, FOLDER/N_plain and FOLDER/N_mae, for N labelled slices.
            "folder": os.path.join("runs", "scm"),
            "columns": ("8", "16", "32", "64", "128"),
            "pictured": "32",
            "smallest_vx": 500,  # of an object
            "published": PUBLISHED,
        }
        folder = public("epfl_hippocampus")
        test = os.path.join(folder, "testing_half.tif")
        names = ("training_half{}.tif[150:165]", *(("testing_half{}.tif",) if os.path.exists(test) else ()))
        for role, kind in (("truths", "_groundtruth"), ("images", "")):
            config.files[role] = tuple(os.path.join(folder, name.format(kind)) for name in names)
        config.files.update({"axes": "ZYX", "voxel_size_nm": (5.0, 10.0, 10.0)})
    if mode == "sparse":
        config.task = mode
        config.sparse = {"folder": os.path.join("runs", "clicks_judged", "phantoms")}
        config.phantom.update({"seeds": (100, 101), "shape": (24, 112, 112), "voxel_size_nm": (12.0, 6.0, 6.0)})
    if mode.startswith("tissue"):
        config.task, config.phantom.seeds = "tissue", ()
        config.tissue = judged_tissue.settings(mode)
    if mode == "epfl_every5":
        config.refiner = "none"
        config.phantom.seeds = ()
        folder = public("epfl_hippocampus")
        image, label = "training_every5.tif[25:33]", "training_groundtruth.tif[125:165:5]"
        config.files.update({"truths": (os.path.join(folder, label),), "images": (os.path.join(folder, image),)})
        config.files.update({"axes": "ZYX", "voxel_size_nm": (25.0, 5.0, 5.0)})
    if mode == "vnc_sstem":
        config.update({"refiner": "none", "endpoint_classes": (2, 3)})  # mitochondria and synapses
        config.phantom.seeds = ()
        image, label = (os.path.join(public("vnc_sstem"), f"{name}.tif[10:14]") for name in ("image", "label"))
        config.files.update({"truths": (label,), "images": (image,)})
        config.files.update({"axes": "ZYX", "voxel_size_nm": (45.0, 4.6, 4.6)})
    return config
