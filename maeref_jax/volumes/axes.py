"""Which stored axis is which, and which channel is meant: said by the file or the user, never guessed."""

from maeref_jax.errors import BadInput
from maeref_jax.volumes.formats.stored import Stored


def resolve_axes(stored: Stored, axes: str | None, beside: bool = False) -> tuple[str, bool]:
    """The axes as stored, and whether the user named them. beside: the file lies beside the one that the axes were
    given for, and may lack its axes of channels and time. Raises BadInput where nobody named them, or they do not fit.
    """
    if axes is None:
        if stored.axes is None:
            example = {2: "YX", 3: "ZYX", 4: "CZYX"}.get(len(stored.shape), "TCZYX")
            raise BadInput(
                f"{stored.path} of shape {stored.shape} does not say what its axes are ('{stored.raw_axes}')"
                f"; give them, e.g. --axes {example}"
            )
        return stored.axes, False
    axes = axes.upper()
    if not {"Y", "X"} <= set(axes) <= set("TCZYXS") or len(set(axes)) != len(axes):
        raise BadInput(f"--axes {axes}: expected each of T C Z Y X at most once, and Y and X, e.g. ZYX")
    spatial = "".join(axis for axis in axes if axis in "ZYX")
    if beside and len(spatial) == len(stored.shape) < len(axes):
        axes = spatial
    if len(axes) != len(stored.shape):
        fits = len(spatial) == len(stored.shape)
        raise BadInput(
            f"--axes {axes} names {len(axes)} axes, but {stored.path} has {len(stored.shape)}: shape "
            f"{stored.shape}, by its own account '{stored.raw_axes}'{f'; give --axes {spatial}' if fits else ''}"
        )
    if stored.raw_axes.endswith("S") and axes[-1] not in "CS":
        raise BadInput(
            f"--axes {axes}: {stored.path} has shape {stored.shape} and its last axis holds colours; "
            f"name it, e.g. --axes {axes[:-1]}C --channel 0, or save the file as grey values"
        )
    return axes, True


def pick_channel(stored: Stored, axes: str, channel: int | str | None, only_of_several: bool = False) -> dict[str, int]:
    """The channel axis and the index in it, {} for a file without one; `channel` is an index from 0 or a name, which
    with `only_of_several` means nothing to a file of one channel.

    Raises:
        BadInput: no such axis, index or name, two such axes, or several channels and none chosen.
    """
    sizes = dict(zip(axes, stored.shape, strict=True))
    channels = [axis for axis in "CS" if axis in axes]
    if only_of_several and all(sizes[axis] == 1 for axis in channels):
        channel = None
    if not channels:
        if channel is not None:
            raise BadInput(f"--channel {channel}: {stored.path} has no channel axis (axes {axes} {stored.shape})")
        return {}
    if len(channels) > 1:
        raise BadInput(f"{stored.path} has two channel axes (axes {axes} {stored.shape}); save one of them")
    (axis,) = channels
    names = stored.channels if len(stored.channels) == sizes[axis] else ()
    called = f", called {', '.join(names)}" if any(names) else ""
    if channel is None and sizes[axis] > 1:
        raise BadInput(
            f"{stored.path} has {sizes[axis]} channels (axes {axes} {stored.shape}), expected one; "
            f"choose with --channel 0 to {sizes[axis] - 1}{called}"
        )
    if isinstance(channel, str):
        if names.count(channel) != 1:
            several = "several channels" if channel in names else "no channel"
            found = called or ", and they have no names"
            raise BadInput(
                f"--channel {channel}: {stored.path} has {several} of that name, but channels 0 to "
                f"{sizes[axis] - 1}{found}"
            )
        return {axis: names.index(channel)}
    if channel is not None and not 0 <= channel < sizes[axis]:
        raise BadInput(f"--channel {channel}: {stored.path} has channels 0 to {sizes[axis] - 1}{called}")
    return {axis: channel or 0}
