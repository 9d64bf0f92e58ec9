"""--within auto: a mask of the tissue is made first, beside the results, by texture and with the usual clean-up."""

from pathlib import Path
from typing import Any

from maeref_jax.errors import BadInput, tell
from maeref_jax.volumes.volume import Volume


def mask_of(stem: str, volumes: dict[str, Any], config) -> Volume | None:
    """The mask of an input, STEM_tissue.ome.zarr in the output folder: the one that is there, or made now; None in a
    dry run, which makes none. volumes: by role.

    Raises:
        BadInput: no image, or one that no mask can be made of; several processes of which each would make it.
    """
    from maeref_jax.commands.tissue import mask_for
    from maeref_jax.report import tissue as pictures

    place = _place(stem, config)
    if "image" not in volumes:
        raise BadInput(f"{stem}: --within auto makes a mask by the texture of the image; give --input, or a mask")
    if not place.sidecar.exists() and config.dry_run:
        tell(f"{stem}: --within auto makes a mask first, which a dry run does not: what it will leave out is not known")
        return None
    if not place.sidecar.exists() and config.num_parts > 1:
        raise BadInput(
            f"{stem}: --within auto with --num_parts {config.num_parts}: each part would make the mask. Make it first: "
            f"maeref tissue --input … --output {config.output}, then give --within {place.folder}"
        )
    # Of several parts each would remove what the others use; refining refuses that, too.
    anew = config.overwrite and config.num_parts == 1 and not config.serve and not config.dry_run
    image = volumes["image"].file or volumes["image"]  # as it is stored: the mask has voxels of its own size
    say = (lambda line: None) if config.serve else tell
    found = mask_for(image, config.output, stem, say, config.typed, overwrite=anew)
    if not config.serve and not config.dry_run:
        pictures.write_page(Path(config.output))
    return found


def doubts(stem: str, config) -> tuple[str, ...]:
    """What is doubted of the mask of an input, where it is made."""
    from maeref_jax.results import ownership

    summary = ownership.summary_of(_place(stem, config))
    return tuple(summary["warnings"]) if summary else ()


def _place(stem, config):
    from maeref_jax.pipeline.tissue import place_of

    return place_of(config.output, stem)
