"""How refine.py works on a volume; every flag of refine.py is shorthand for the field of the same name.

    python refine.py --input image.tif --output refined --ensemble runs/ensemble --refiner runs/mae
    python refine.py ... --config configs/refine.py --config.block=8,1024,1024 --config.tiff_export=false

Device: any; the networks decide. Modes: "" and "smoke" (small blocks and batches, no TIFF export, tables of
objects and repairs, or report: a test of the way through, not of speed).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs.defaults import trust

MODES = ("", "smoke")


def get_config(mode=""):
    config = ConfigDict(
        {
            # Inputs: paths, globs ("stacks/*.tif"), z ranges ("image.tif[0:8]"). With several inputs the
            # other paths are name patterns: "{stem}_entropy.tif" beside the input, "folder/{stem}.tif" from
            # the working directory.
            "input": (),
            "labels": "",
            "entropy": "",
            "hidden": "",
            "probabilities": (),
            # A mask of what to work on, such as tissue (docs/tissue.md), on any grid of the same extent: 0 is outside
            # and becomes background. Blocks and windows outside are not computed. auto: a mask of the tissue is made
            # first, by texture, and stays beside the results.
            "within": "",
            "nnunet": (),  # nnU-Net's folders of predictions, instead of the paths above but for input, its images
            "batch_table": "",  # --batch: a CSV file with a row for every input, instead of the paths above
            "axes": "",  # as stored, e.g. "ZYX", for files that do not say
            "voxel_size_nm": (),  # (z, y, x), for files that do not say
            # (z, y, x) to work at, whatever the files' own, which the result is brought back to (docs/formats.md).
            "at_voxel_size_nm": (),
            # Names of the classes, background first, where no model says them: refiner "none" with your own labels.
            "classes": (),
            # What the ids of your labels mean, where that is not plain: "0:0,255:1", instances or identity.
            "label_map": (),
            # Slices of your labels that are the truth, 0:160:5 or 0,7,20:30: nothing changes them, others follow them.
            "labelled_slices": (),
            "channel": placeholder(str),  # of the image: index from 0, or name
            **trust(),
            "output": "",
            "ensemble": "",  # workdir, or "" to bring one's own labels or probabilities
            # Average the ensemble's predictions over the orientations of the plane; none: as its config says (`use`).
            "ensemble_symmetries": placeholder(bool),
            "refiner": "",  # workdir, "nearest" and such, which learn nothing, or "none" to segment only
            # What says which tokens are hidden: entropy, by the two thresholds below; error, the refiner, which is a
            # corrector; or a corrector's workdir. gain: what a token must promise then, as chosen when it was trained.
            "hide_by": "entropy",
            "gain": placeholder(float),
            # Tokens of higher mean entropy are hidden. none: as the refiner was trained; 0.4 without a refiner.
            "threshold": placeholder(float),
            "suggest_threshold": "",  # path of the input's true labels, or "none": try thresholds, refine nothing
            "ambiguous_threshold": placeholder(float),  # so are tokens of higher mean probability of "ambiguous"
            # What hides tokens: entropy of the mean probability; of hard votes; or mutual_information, what members
            # disagree about. mean is what refiners' thresholds are made for; the others need --threshold.
            "entropy_kind": "mean",
            # What is filled in slice by slice agrees with the slices above and below within this length, 8 at most; 0:
            # every slice by itself, as in the paper and in the library (jobs.Settings). None: as the refiner's training
            # found best on whole validation slices; where it found nothing 40, which is ours (docs/evaluation.md); 0 in
            # tokens that a corrector hides itself.
            # Every block costs the windows of so many slices more on either side, where a hole goes on there.
            "agree_within_nm": placeholder(float),
            # How the refiner fills, none: as its config says (`use`). The mean over the eight symmetries; in rounds,
            # the most certain tokens first; the agreement of so many sampled fillings, 0 for none.
            "use": {
                "symmetries": placeholder(bool),
                "rounds": placeholder(int),
                "samples": placeholder(int),
                "everywhere": placeholder(
                    bool
                ),  # continuity: says itself which voxels change; or at hidden tokens alone
            },
            "token": placeholder(int),  # side of a token in voxels, for refiner "none" (4): a refiner has its own
            "block": (8, 512, 512),  # voxels in memory at a time; the unit of resuming; no influence on the result
            "batch": 16,  # windows per call of a network; on CPUs one, and 8 of a refiner with several lengths
            "seed": 0,
            # Several processes on one output, see docs/clusters.md; no influence on the result.
            "num_parts": 1,
            "part_id": placeholder(int),  # this is part 0 … num_parts - 1
            "wait_minutes": 60.0,  # for blocks that another part has to do first
            "workers": 0,  # processes that this one starts, by daisy; 0: it does everything itself
            "worker_command": "",  # put before the command of a worker: "srun -n 1 -c 8"; "": on this machine
            "worker_host": "",  # where workers on other machines reach this one, a name or address of it; "": nowhere
            "serve": "",  # of a worker: the input that it works on
            "typed": (),  # the command, word by word, for whoever has to type it again; it sets this itself
            # Before it is let loose the refiner is tried at so many places of the volume, on visible labels near
            # hidden ones (pipeline/asking.py); 0: it is not.
            "ask": 64,
            "strict": False,  # a warning stops: exit code 2
            "dry_run": False,  # only say what it will take
            "overwrite": False,
            "tiff_export": True,
            # --export: the maps in other formats as well, such as "nii.gz"; also when all else is done already.
            "export": (),
            "report": True,  # report.html in the output folder: all volumes, pictures where most changed
            # An independent stain to score the outlines against: a channel of the image (index or name), or a path or
            # name pattern; how near the outline, and a hidden token, near is, in voxels of the plane.
            "witness": "",
            "witness_distance_vx": 3.0,
            "witness_reach_vx": 16.0,
            "copy_image": False,  # into the OME-Zarr, which then opens with the image; else its path is noted there
            "ome_zarr": "0.5",  # or "0.4", for older readers
            # STEM_objects.csv: a row for every connected piece of these classes; (): all but 0. Lengths, branches and
            # skeletons where the classes are those of mitochondria, or named here.
            "objects": True,
            "object_classes": (),
            "cristae_class": placeholder(int),  # none: the class of that name in the mitochondria's scheme
            "smallest_object_vx": 64,
            "flag_hidden_share": 0.5,  # objects of which more is hidden are flagged
            # STEM_repairs.csv and labels/trust: every repaired blob is green, amber or red. Of each number: green up to
            # the first, red beyond the second, amber between; the worst counts. They are choices, not calibrated.
            "trust": True,
            "trust_limits": {
                "confidence": (0.8, 0.6),  # the refiner's mean probability of what it chose
                "radius": (2.0, 4.0),  # largest distance to a visible token in the slice, in token sides
                "context": (0.6, 0.3),  # share of visible tokens in the square around its tokens, mean
                "foreignness": (0.2, 0.5),  # share of visible voxels beside it that a test fills in wrongly
                "reach": 4,  # of the square, in tokens on each side
            },
            "foreignness": False,  # do that test too: the refiner works twice
            "disagreement": False,  # write what the members disagree about, too: the networks work twice
            "keep_probabilities": False,  # write the class probabilities, too, in steps of 1/255
            "leave": (),  # what is left as it was: red (blobs), flagged (objects of the initial map), or both
        }
    )
    if mode == "smoke":
        config.update({"block": (2, 64, 64), "batch": 2, "tiff_export": False, "objects": False, "trust": False})
        config.update({"report": False, "ask": 4})
    return config
