"""nnU-Net's folders as they are: a prediction folder, one for each fold, or the folder of a trainer with its fold_*/.

CASE.npz holds class probabilities, CASE.pkl says where they lie, dataset.json what the classes are called; images are
CASE_0000.nii.gz. Where several folders, or folds, have a case, they are the members of its ensemble.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from maeref_jax.commands.requests import Request
from maeref_jax.errors import BadInput
from maeref_jax.volumes import label_ids
from maeref_jax.volumes.class_scheme import listed
from maeref_jax.volumes.json_files import read_object
from maeref_jax.volumes.volume import FILES, Volume, open_volume

# Where a fold keeps the probabilities of the cases that it has not seen: versions 2 and 1.
_VALIDATION = ("validation", "validation_raw")
_SAVE = "predict again with --save_probabilities (nnU-Net 1: --save_npz), which keeps them"
BACKGROUND = "background"  # as nnU-Net calls it
_LEVELS = 4  # above a folder of predictions, in which its dataset.json is looked for


def find(folders: Sequence[str], images: Sequence[str], channel: str | None, scheme: dict | None, label_map) -> tuple:
    """One Request per case of the folders; what is wrong with other cases, by their names; and the names of the
    classes, background first, () where nobody says them.

    images: folders with CASE_0000.*, may be none; channel: which of them, 0 if None; scheme: of the refiner, or as
    --classes names them, None where only dataset.json says; label_map: which class each of nnU-Net's ids is, where the
    names do not say.

    Raises:
        BadInput: no such folder, no probabilities in it, or classes that are not the refiner's.
    """
    if channel is not None and not channel.isdecimal():
        raise BadInput(f"--channel {channel}: of --nnunet it is a number, 1 for CASE_0001")
    cases = _cases([place for folder in folders for place in _members(Path(folder))])
    names = _names([*(file.parent for files in cases.values() for file in files), *map(Path, images)])
    if scheme is None:
        first = [name for name in names if name.strip().lower() == BACKGROUND]
        names_here = (*first, *(name for name in names if name not in first))
        named = {"names": names_here, "ambiguous": -1} if names else None
    else:
        names_here, named = tuple(scheme["names"]), scheme
    classes = arrangement(names, named, label_map)
    most, requests, wrong = max(map(len, cases.values())), [], {}
    for case, files in sorted(cases.items()):
        paths = {"probabilities": tuple(map(str, files))}
        if images:
            image = _image(case, images, channel)
            if image is None:
                name = f"{case}_{int(channel or 0):04}.*"
                wrong[case] = f"there is no image {name} in {', '.join(images)}; leave --input out to do without"
                continue
            paths |= {"image": str(image)}
        doubts = []
        if scheme is not None and not names and not label_map:
            doubts.append(f"{case}: no dataset.json says what the classes are; taken as {listed(scheme)}")
        if len(files) < most:
            told = ", ".join(str(file.parent) for file in files)
            doubts.append(f"{case} has {len(files)} members, other cases have {most}: {told} alone")
        requests.append(Request(case, paths, classes=classes, doubts=tuple(doubts)))
    return requests, wrong, names_here


def arrangement(names: Sequence[str], scheme: dict | None, label_map: Sequence) -> tuple[tuple[int, ...], ...]:
    """Of each real class of the scheme, which ids of nnU-Net's `names` are it; () for as they are."""
    label_map = label_ids.label_map_of(label_map)
    if label_map == label_ids.IDENTITY or (scheme is None and not label_map):
        return ()
    if scheme is None:
        raise BadInput(
            "--label_map: nobody says what the classes are, there is no dataset.json; give --classes as well"
        )
    wanted = [name for i, name in enumerate(scheme["names"]) if i != scheme["ambiguous"]]
    if label_map:
        pairs = dict(label_map) if label_map != label_ids.INSTANCES else {}
        if sorted(pairs) != list(range(len(names) or len(pairs))) or not set(pairs.values()) <= set(range(len(wanted))):
            raise BadInput(
                f"--label_map {label_map}: of --nnunet every id must be given, {_listed(names) or '0, 1, …'}, and be "
                f"one of the classes {listed(scheme)}"
            )
        return tuple(tuple(i for i, label in pairs.items() if label == wanted_id) for wanted_id in range(len(wanted)))
    if not names:
        return ()
    ours, theirs = ([name.strip().lower() for name in some] for some in (wanted, names))
    if sorted(ours) != sorted(theirs):
        example = ",".join(f"{i}:{min(i, len(wanted) - 1)}" for i in range(len(names)))
        raise BadInput(
            f"dataset.json has the classes {_listed(names)}, but wanted are {listed(scheme)}; say which is which "
            f"with --label_map ID:CLASS for every one, e.g. --label_map {example}"
        )
    return () if ours == theirs else tuple((theirs.index(name),) for name in ours)


def understood(volume: Volume, classes: tuple[tuple[int, ...], ...]) -> Volume:
    """The probabilities in the order of `classes`, those of ids that are one class added, lying in the world where
    nnU-Net's own segmentation does. Raises BadInput for an id that is not there.
    """
    volume = replace(volume, placement=_placement(volume))
    if not classes:
        return volume
    if max(map(max, filter(None, classes))) >= volume.classes:
        raise BadInput(f"{volume.path} has {volume.classes} classes, but --label_map or dataset.json speak of more")

    def read(box):
        found = volume.read(box)
        return np.minimum(np.stack([found[list(ids)].sum(0) for ids in classes]), 1)  # halves round, and sums exceed 1

    return replace(volume, classes=len(classes), _read=read, view=f"{volume.view}, classes {classes}")


def _placement(volume: Volume):
    for suffix in (".nii.gz", ".nii"):
        beside = volume.source.with_suffix(suffix)
        if beside.is_file():
            found = open_volume(beside)
            return found.placement if found.shape == volume.shape else None
    return volume.placement  # as the .pkl says


def _members(folder: Path) -> list[Path]:
    """The folders with .npz files that a given one stands for."""
    if not folder.is_dir():
        raise BadInput(f"--nnunet {folder}: no such folder")
    for place in (folder, *(folder / name for name in _VALIDATION)):
        if any(place.glob("*.npz")):
            return [place]
    folds = sorted({path.parent for path in folder.glob("**/fold_*") if path.is_dir()})
    if len(folds) > 1:
        raise BadInput(f"--nnunet {folder} holds several models, give one of: {', '.join(map(str, folds))}")
    inside = sorted(path for path in folds[0].glob("fold_*") if path.is_dir()) if folds else []
    found = [place for fold in inside if _holds(fold) for place in _members(fold)]
    if not found:
        raise BadInput(f"--nnunet {folder} holds no CASE.npz with class probabilities, nor do fold_*/ in it; {_SAVE}")
    return found


def _holds(fold: Path) -> bool:
    return any(any(place.glob("*.npz")) for place in (fold, *(fold / name for name in _VALIDATION)))


def _cases(places: Sequence[Path]) -> dict[str, list[Path]]:
    cases: dict[str, list[Path]] = {}
    for place in places:
        for file in sorted(place.glob("*.npz")):
            cases.setdefault(file.stem, []).append(file)
    return cases


def _names(places: Sequence[Path]) -> tuple[str, ...]:
    """The classes of the nearest dataset.json, in or above one of the folders, by their ids; () for none."""
    for place in dict.fromkeys(places):
        for folder in [place, *place.resolve().parents][: _LEVELS + 1]:
            if (folder / "dataset.json").is_file():
                return names_in(folder / "dataset.json")
    return ()


def names_in(path: Path) -> tuple[str, ...]:
    labels = read_object(path).get("labels")
    try:
        # Version 2 says {"mito": 1}, version 1 {"1": "mito"}.
        pairs = [(value, key) if isinstance(value, int | list) else (int(key), value) for key, value in labels.items()]
    except (ValueError, TypeError, AttributeError) as error:
        raise BadInput(f"{path} cannot be read, expected nnU-Net's labels in it: {error}") from error
    if any(isinstance(label, list) for label, _ in pairs):
        raise BadInput(f"{path}: its classes are regions, which overlap; expected classes that exclude one another")
    pairs = sorted((label, str(name)) for label, name in pairs if name != "ignore")
    if [label for label, _ in pairs] != list(range(len(pairs))):
        raise BadInput(f"{path} has the labels {[label for label, _ in pairs]}, expected 0, 1, 2, …")
    return tuple(name for _, name in pairs)


def _image(case: str, images: Sequence[str], channel: str | None) -> Path | None:
    wanted = re.compile(rf"{re.escape(case)}_{int(channel or 0):04}({'|'.join(map(re.escape, FILES))})", re.IGNORECASE)
    for folder in images:
        place = Path(folder)
        for path in sorted(place.iterdir()) if place.is_dir() else [place]:
            if wanted.fullmatch(path.name):
                return path
    return None


def _listed(names: Sequence[str]) -> str:
    return listed({"names": names})
