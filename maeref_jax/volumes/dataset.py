"""What the settings of a data set say of its files: axes, voxel size, channel, how far they are trusted; what label ids
mean. They win over the file.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from maeref_jax.errors import BadInput, tell
from maeref_jax.volumes import clicks, label_ids
from maeref_jax.volumes.formats.trust import CAUTIOUS, Trust
from maeref_jax.volumes.labels import derive_shell
from maeref_jax.volumes.resolution import at_voxel_size
from maeref_jax.volumes.volume import Volume, open_probabilities, open_volume
from maeref_jax.volumes.voxel_size import checked_size
from maeref_jax.volumes.windows import whole

# Coarser voxels, by role: labels by vote, masks so that nothing that is marked is lost; all else is averaged.
VOTED = ("labels", "truths")
MARKED = ("hidden", "low_signal")


class Given(NamedTuple):
    """axes: as stored, "ZYX"; voxel_size_nm: (z, y, x); channel: index from 0, or name. None where nothing is said;
    trust: of the files; at_voxel_size_nm: (z, y, x), which they are all read at, None for their own.
    """

    axes: str | None = None
    voxel_size_nm: tuple[float, float, float] | None = None
    channel: int | str | None = None
    trust: Trust = CAUTIOUS
    at_voxel_size_nm: tuple[float, float, float] | None = None

    def open(self, path: str | Path, role: str = "image") -> Volume:
        """A file of that role. An image needs the channel that is given; what lies beside it (labels, hidden, …) may
        have one channel, or several, of which it is that one. Raises BadInput as `open_volume` does.
        """
        beside = role not in ("image", "images")
        given = {"axes": self.axes, "voxel_size_nm": self.voxel_size_nm, "channel": self.channel}
        return self.brought(open_volume(path, **given, only_of_several=beside, trust=self.trust), role)

    def open_mask(self, path: str | Path, volume: Volume) -> Volume:
        """A mask of what is worked on of a volume (within.py): on the grid of its file, of the voxel size that is
        given; or on another one, whose size the mask's file has to say. Raises BadInput as `open_volume` does.
        """
        found = self._replace(voxel_size_nm=None).open(path, "within")
        return self.open(path, "within") if found.shape == (volume.file or volume).shape else found

    def open_probabilities(self, path: str | Path) -> Volume:
        """Class probabilities, whose channels are the classes. Raises BadInput as its namesake does."""
        found = open_probabilities(path, axes=self.axes, voxel_size_nm=self.voxel_size_nm, trust=self.trust)
        return self.brought(found, "probabilities")

    def brought(self, volume: Volume, role: str) -> Volume:
        """A volume of that role at the size that all are read at; a mask of what is worked on ("within") may have any.
        Raises BadInput as `at_voxel_size` does.
        """
        if self.at_voxel_size_nm is None or role == "within":
            return volume
        how = "mode" if role in VOTED else "largest" if role in MARKED else "mean"
        return at_voxel_size(volume, self.at_voxel_size_nm, how)


def given_of(settings: Mapping[str, Any]) -> Given:
    """What a group of settings says; one of an older workdir may lack some."""
    channel = settings.get("channel")
    index = int(channel) if isinstance(channel, str) and channel.isdecimal() else channel
    trust = Trust(**{name: settings[name] for name in Trust._fields if name in settings})
    own, wanted = (tuple(settings.get(name) or ()) or None for name in ("voxel_size_nm", "at_voxel_size_nm"))
    return Given(settings.get("axes") or None, own, index, trust, wanted and checked_size(wanted, "at_voxel_size_nm"))


def met(volumes: Mapping[str, Any]) -> dict[str, Any]:
    """Volumes by role, or tuples of them, that are read at one voxel size, all on one grid: that of the first that has
    voxels of that size, else of the first. One of coarser voxels may end half of one later, and is rounded up then.

    Raises BadInput for one that shows another extent.
    """
    every = [volume for found in volumes.values() for volume in (found if isinstance(found, tuple) else (found,))]
    shape = next((volume.shape for volume in every if volume.bring is None), every[0].shape)

    def one(volume):
        if isinstance(volume, tuple):
            return tuple(map(one, volume))
        return volume if volume.shape == shape or volume.bring is None else volume.bring(volume.file, shape=shape)

    return {role: one(volume) for role, volume in volumes.items()}


def mapped_labels(volume, data, scheme, say=tell, flag="--label_map"):
    """The labels of a Volume in the classes of a scheme, int16, -1 unknown. data: label_map, shell_class (-1 for
    none), shell_vx; scheme: {"names", "ambiguous"}, or how many classes there are; say: hears what was taken how, and
    what is doubted.

    Raises BadInput for ids that could mean several things or none, naming `flag`, which settles it.
    """
    reading = label_ids.understand(volume, _scheme(scheme), data["label_map"], flag)
    for line in reading.lines:
        say(line)
    classes = label_ids.as_classes(volume, reading)
    labels = clicks.brought_labels(classes, say) if classes.file is not None else None
    labels = classes.read(whole(volume.shape)) if labels is None else labels
    if data["shell_class"] >= 0:
        labels = derive_shell(labels, data["shell_class"], data["shell_vx"])
    return labels


def clicked_labels(path, image, data, scheme, say=tell):
    """The labels that a file of clicks gives an image, a Volume: as `mapped_labels`. Raises BadInput as
    clicks.labels_of_clicks does, and where a shell is to be derived, which needs whole objects.
    """
    if data["shell_class"] >= 0:
        raise BadInput(
            f"{path} holds clicks, and a shell is derived of whole objects: click on class {data['shell_class']} as "
            "well, and set --config.data.shell_class=-1"
        )
    return clicks.labels_of_clicks(path, image, _scheme(scheme), say)


def _scheme(scheme):
    """A class scheme, of which the number of its classes may be all that is known."""
    return {"names": ("",) * scheme, "ambiguous": -1} if isinstance(scheme, int) else scheme
