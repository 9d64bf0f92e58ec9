"""A class scheme: the names of the classes, what they are drawn in, and which of them, if any, is "ambiguous"."""

import colorsys
import itertools
from collections.abc import Sequence

from maeref_jax.errors import BadInput

AMBIGUOUS = "ambiguous"
MITOCHONDRIA = ("background", "intermembrane", "cristae", "matrix")  # of the paper
MOST = 255  # ids 0 … 254: 255 is unknown on disk
# What names that are known are drawn in; white, grey and what the reports mark with are no colours of classes.
USUAL = {
    "intermembrane": (40, 90, 255),
    "cristae": (40, 200, 80),
    "matrix": (250, 220, 60),
    "mitochondria": (250, 220, 60),
    "mitochondrion": (250, 220, 60),
    AMBIGUOUS: (150, 150, 150),
}
BACKGROUND = (0, 0, 0)
# Apart from each other and from black, for colour-blind readers too (after Okabe and Ito); more are made beyond these.
_FREE = (
    (250, 220, 60), (40, 90, 255), (40, 200, 80), (230, 60, 60), (90, 200, 240), (230, 150, 20), (200, 110, 200),
    (150, 90, 40),
)  # fmt: skip


def scheme_of_names(names: Sequence[str]) -> dict:
    """The scheme {"names", "colours", "ambiguous"} of class names, background first. colours: (r, g, b) of 0 to 255,
    one for every class, no two alike; ambiguous: the id of the class of that name, -1 where there is none.

    Raises:
        BadInput: fewer than two real classes, more than 255, a name twice or empty, "ambiguous" not the last, or
            "background" not the first.
    """
    names = tuple(str(name).strip() for name in names)
    example = "expected the names of the classes, background first, e.g. --classes background,mitochondria"
    if len(names) - (AMBIGUOUS in names) < 2 or len(names) > MOST:
        raise BadInput(f"--classes {','.join(names)}: {example}; at least two beside 'ambiguous', at most {MOST}")
    if not all(names) or len(set(names)) < len(names):
        raise BadInput(f"--classes {','.join(names)}: a name is empty or stands there twice; {example}")
    for name, place in (("background", 0), (AMBIGUOUS, len(names) - 1)):
        if name in names and names.index(name) != place:
            raise BadInput(f"--classes {','.join(names)}: '{name}' must be the {'last' if place else 'first'} one")
    ambiguous = len(names) - 1 if names[-1] == AMBIGUOUS else -1
    return {"names": names, "colours": _colours(names), "ambiguous": ambiguous}


def is_mitochondria(names: Sequence[str]) -> bool:
    """Whether the first classes are those of the paper, of which the validity metrics know what they mean."""
    return tuple(names[: len(MITOCHONDRIA)]) == MITOCHONDRIA


def listed(scheme: dict) -> str:
    """The classes with their ids, as a sentence names them: "0 background, 1 mitochondria"."""
    return ", ".join(f"{i} {name}".strip() for i, name in enumerate(scheme["names"]))


def check_same_names(given: Sequence[str], scheme: dict, workdir: str) -> None:
    """BadInput where --classes names other classes than those of the model in `workdir`."""
    given = [str(name).strip() for name in given]
    if given != list(scheme["names"]):
        raise BadInput(
            f"--classes {','.join(given)}, but {workdir} was trained for {','.join(scheme['names'])}; leave --classes "
            "out, or take a model of these classes"
        )


def _colours(names):
    usual = [BACKGROUND, *(USUAL.get(name) for name in names[1:])]
    colours = [colour if colour not in usual[:i] else None for i, colour in enumerate(usual)]
    free = (colour for colour in _endless() if colour not in colours)
    return tuple(colour or next(free) for colour in colours)


def _endless():
    yield from _FREE
    # Beyond these, hues that the golden ratio keeps apart, in three tones one after the other.
    for number in itertools.count():
        saturation, value = ((0.75, 0.95), (0.45, 0.7), (0.95, 0.5))[number % 3]
        yield tuple(round(255 * part) for part in colorsys.hsv_to_rgb(number * 0.618034 % 1, saturation, value))
