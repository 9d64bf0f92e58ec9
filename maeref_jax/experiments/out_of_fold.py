"""What an ensemble says of its own training volumes, each predicted only by the members that never saw it:

    maeref out-of-fold --ensemble runs/ensemble --output runs/ensemble_out_of_fold

Writes what refine.py writes without a refiner: labels, entropy, hidden tokens. A masked autoencoder may learn from them
as from those of volumes that nobody annotated. The same command again continues an interrupted run.
"""

from pathlib import Path

from maeref_jax.errors import tell
from maeref_jax.phantoms.phantom import phantom
from maeref_jax.pipeline import jobs, methods, refining
from maeref_jax.results.output import instead
from maeref_jax.samples.training_volumes import stems
from maeref_jax.segmenters.ensemble import out_of_fold
from maeref_jax.volumes.dataset import given_of
from maeref_jax.volumes.volume import array_volume, resolved


def annotated(settings):
    """[(name in the workdir's facts, stem of the results, function that opens the image)] of the training volumes."""
    data, size = settings["data"], tuple(settings["voxel_size_nm"])
    if data["phantom"]["train"]:

        def made(seed):
            found = phantom(seed, tuple(data["phantom"]["shape"]), size)
            return array_volume(found.image, f"phantom_{seed}", found.voxel_size_nm)

        return [(f"phantom_{s}", f"phantom_{s}", lambda s=s: made(s)) for s in data["phantom"]["train"]]
    images, labels = data["train"]["images"], data["train"]["labels"]
    return [
        (resolved(label), stem, lambda p=image: given_of(data).open(p))
        for image, label, stem in zip(images, labels, stems(images), strict=True)
    ]


def predict(ensemble, output, say=tell):
    """Predict every annotated volume of the workdir `ensemble` out of fold into the folder `output`. {stem: members}.

    Raises BadInput, before anything is computed, if some volume was seen by every member.
    """
    model = methods.load_model(ensemble, "segmenter")
    todo = [
        (stem, opened, out_of_fold([name], model.facts["member_volumes"]))
        for name, stem, opened in annotated(model.settings)
    ]
    settings = jobs.Settings()
    if model.apply.dims == 3:
        # Blocks as deep as a window: none is computed more often than need be.
        settings = settings._replace(block=(model.apply.window[0], *settings.block[1:]), batch=1)
    everybody = tuple(range(model.settings["members"]))
    for stem, opened, members in todo:
        job = jobs.Job(stem=stem, output=Path(output), image=opened(), members=members)
        with instead("choose another --output"):
            refining.refine_volume(job, model, None, settings, say)
        say(f"{stem}: members {', '.join(map(str, members or everybody))} of {len(everybody)}")
    return {stem: members or everybody for stem, _, members in todo}
