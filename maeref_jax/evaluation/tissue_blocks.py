"""The blocks that tell how good a mask of tissue is: made by seed in groups, and held out from every model."""

from maeref_jax.errors import BadInput
from maeref_jax.phantoms.tissue import TissueBlock
from maeref_jax.samples import tissue_volumes


def check(settings: dict, models) -> None:
    """Raises BadInput for groups that cannot be made, and if a model has learned from, or was validated on, a block to
    judge on, or those columns of the image whose texture it has.

    settings: `tissue` of configs/evaluate.py; models: jobs.Model, trained.
    """
    for name, group in {**settings["validation"], **settings["test"]}.items():
        if group["texture"] and group["texture"] not in settings["textures"]:
            known = ", ".join(settings["textures"]) or "none"
            raise BadInput(f"tissue: the group '{name}' has the texture '{group['texture']}'; there are {known}")
    sizes = {group["voxel_nm"] for group in settings["validation"].values()}
    if len(sizes) != 1:
        raise BadInput(f"tissue.validation has voxels of {sorted(sizes)} nm; masks are chosen at one size")
    chosen = {one for group in settings["validation"].values() for one in names(group)}
    judged = {one for group in settings["test"].values() for one in names(group)}
    if chosen & judged:
        raise BadInput(f"tissue: {', '.join(sorted(chosen & judged))} are both in validation and in test")
    for model in models:
        seen = judged & {*model.facts["volumes"], *model.facts["validation_volumes"]}
        if seen:
            raise BadInput(
                f"expected volumes that no model has seen, but {', '.join(sorted(seen))} belonged to the training or "
                f"validation data of {model.workdir}; choose others"
            )
        learned = model.settings["data"]["phantom"].get("tissue", {}).get("texture", {"path": ""})
        for name, texture in settings["textures"].items():
            if texture["path"] == learned["path"] and _overlap(texture["columns"]["test"], learned["columns"]):
                raise BadInput(f"tissue: the test columns of the texture '{name}' were learned by {model.workdir}")


def names(group: dict) -> list[str]:
    """What a workdir would remember the blocks of a group by."""
    return [tissue_volumes.name_of(seed, group["kind"]) for seed in group["seeds"]]


def made(group: dict, split: str, settings: dict) -> list[TissueBlock]:
    """The blocks of a group (kind, texture, voxel_nm, shift, seeds). split: whose columns of a texture these have."""
    texture = settings["textures"].get(group["texture"], {})
    size, shape = (group["voxel_nm"],) * 3, tuple(settings["shape"])
    return [
        tissue_volumes.block(seed, shape, size, group["kind"], texture, split, group["shift"])
        for seed in group["seeds"]
    ]


def _overlap(test, columns):
    return any(name != "test" and first < test[1] and test[0] < last for name, (first, last) in columns.items())
