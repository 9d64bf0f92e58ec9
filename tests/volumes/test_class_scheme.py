"""volumes/class_scheme.py: names make a scheme, whose colours can be told apart."""

import numpy as np
import pytest

from maeref_jax.errors import BadInput
from maeref_jax.volumes.class_scheme import check_same_names, is_mitochondria, scheme_of_names


def test_names_that_are_known_keep_their_colours():
    binary = scheme_of_names(("background", "mitochondria"))
    assert binary == {"names": ("background", "mitochondria"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}
    paper = scheme_of_names(("background", "intermembrane", "cristae", "matrix", "ambiguous"))
    assert paper["ambiguous"] == 4 and is_mitochondria(paper["names"]) and not is_mitochondria(binary["names"])
    assert paper["colours"] == ((0, 0, 0), (40, 90, 255), (40, 200, 80), (250, 220, 60), (150, 150, 150))


@pytest.mark.parametrize("names", [("mitochondria", "matrix"), tuple(f"class {i}" for i in range(30))])
def test_colours_are_apart_and_black_is_background(names):
    colours = np.array(scheme_of_names(("background", *names, "ambiguous"))["colours"])
    distances = np.linalg.norm(colours[:, None] - colours[None].astype(float), axis=-1) + 1e3 * np.eye(len(colours))
    assert colours[0].tolist() == [0, 0, 0] and distances.min() > 12 and colours.min() >= 0 and colours.max() <= 255
    assert len({tuple(colour) for colour in colours.tolist()}) == len(colours)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("mitochondria",), "background first, e.g. --classes background,mitochondria"),
        (("background", "ambiguous"), "at least two beside 'ambiguous'"),
        (("background", "a", "a"), "stands there twice"),
        (("background", ""), "a name is empty"),
        (("mitochondria", "background"), "'background' must be the first"),
        (("background", "ambiguous", "matrix"), "'ambiguous' must be the last"),
        (("background", *map(str, range(255))), "at most 255"),
    ],
)
def test_names_that_make_no_scheme_are_refused(names, message):
    with pytest.raises(BadInput, match=message):
        scheme_of_names(names)


def test_names_of_another_model_are_refused():
    scheme = {"names": ["background", "matrix"]}
    check_same_names(("background", "matrix"), scheme, "runs/mae")
    with pytest.raises(BadInput, match="--classes background,mitochondria, but runs/mae was trained for background,ma"):
        check_same_names(("background", "mitochondria"), scheme, "runs/mae")
