"""The classes of a training run, by name or as its ensemble has them, and all settings with a length per class."""

import json

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods
from maeref_jax.training.workdir import read_config
from maeref_jax.volumes.class_scheme import check_same_names, is_mitochondria, listed, scheme_of_names
from maeref_jax.volumes.label_ids import label_map_of
from maeref_jax.volumes.labels import real_classes


def settled(settings, names=(), given=(), say=print):
    """The settings of a config with the classes `names`, or without these those of data.ensemble, whose label maps a
    refiner learns from, and then its voxel size as well.

    given: names of the settings that the user has set ("voxel_size_nm", "classes.names"), which nothing replaces.
    Raises BadInput where `names` are no classes, or not those of the ensemble.
    """
    data = settings.get("data", {})
    if data:
        settings = {**settings, "data": {**data, "label_map": label_map_of(data["label_map"])}}
    if names and any(name.startswith("classes.") for name in given):
        raise BadInput("--classes and --config.classes.… both say what the classes are; leave one out")
    if not data.get("ensemble"):
        return with_classes(settings, scheme_of_names(names), given) if names else settings
    theirs, followed = read_config(data["ensemble"])["config"], []
    if names:
        check_same_names(names, theirs["classes"], data["ensemble"])
    if not any(name.startswith("classes.") for name in given) and _differ(settings["classes"], theirs["classes"]):
        settings = with_classes(settings, theirs["classes"], given)
        followed.append(f"classes {listed(theirs['classes'])}")
    if "voxel_size_nm" not in given and _differ(settings["voxel_size_nm"], theirs["voxel_size_nm"]):
        settings = {**settings, "voxel_size_nm": tuple(theirs["voxel_size_nm"])}
        followed.append(f"voxel_size_nm {', '.join(f'{length:g}' for length in theirs['voxel_size_nm'])}")
    if followed:
        say(f"as the ensemble {data['ensemble']} was trained: {'; '.join(followed)}")
    return settings


def with_classes(settings, scheme, given=()):
    """The settings for another class scheme: equal class weights become as many as are needed, and classes that a
    search is judged by, all. given: as in `settled`. Raises BadInput for unequal weights of other classes.
    """
    same = list(scheme["names"]) == list(settings["classes"]["names"])
    changed = {**settings, "classes": scheme}
    if same:
        return changed
    if "score_classes" in settings and "score_classes" not in given:
        changed["score_classes"] = ()
    weights = settings.get("class_weights", ())
    if weights and "class_weights" not in given:
        needed = max(weights_needed(changed)) if settings["method"] in methods.SEGMENTERS else real_classes(scheme)
        if len(set(weights)) > 1:
            raise BadInput(
                f"the config's class_weights {weights} are those of {listed(settings['classes'])}; for "
                f"{listed(scheme)} give {needed} weights with --config.class_weights"
            )
        changed["class_weights"] = (weights[0],) * needed
    return changed


def weights_needed(settings):
    """How many class_weights there may be, a set: one for every class; a refiner has no use for that of "ambiguous"."""
    count = len(settings["classes"]["names"])
    return {count} | ({real_classes(settings["classes"])} if settings["method"] in methods.REFINERS else set())


def check(settings):
    """Raises BadInput for classes that contradict themselves, or ids and weights that are not theirs."""
    scheme, data = settings["classes"], settings.get("data", {})
    count = len(scheme["names"])
    if len(scheme["colours"]) != count or len(set(scheme["names"])) < count or count < 2:
        raise BadInput(
            f"classes.names are {scheme['names']} with {len(scheme['colours'])} colours, expected at least two names, "
            "none twice, and a colour for each; give the names with --classes, which chooses the colours"
        )
    if scheme["ambiguous"] not in (-1, count - 1):
        raise BadInput(
            f"classes.ambiguous must be the last class, {count - 1}, or -1 for none, found {scheme['ambiguous']}; give "
            "the names with --classes"
        )
    weights = settings.get("class_weights")
    if weights is not None and (len(weights) not in weights_needed(settings) or min(weights) < 0):
        raise BadInput(
            f"class_weights needs one weight, not negative, for each of {listed(scheme)}; found {weights}. With "
            "--classes they are all alike unless --config.class_weights says otherwise"
        )
    if data and not -1 <= data["shell_class"] < count:
        raise BadInput(f"data.shell_class is {data['shell_class']}, expected -1 for none, or one of {listed(scheme)}")
    phantoms = any(data.get("phantom", {}).get(split) for split in ("train", "validation"))
    if phantoms and "tissue" in data["phantom"] and count != 2:
        raise BadInput(
            f"blocks of tissue have two classes, resin and tissue, but the classes are {listed(scheme)}; give volumes "
            "of your own (--images, --labels, --validation_images, --validation_labels), or leave --classes out"
        )
    phantoms = phantoms and "tissue" not in data["phantom"]
    if phantoms and not (is_mitochondria(scheme["names"]) and real_classes(scheme) == 4):
        raise BadInput(
            "phantoms have the classes background, intermembrane, cristae, matrix, and the config trains on them, but "
            f"the classes are {listed(scheme)}; give volumes of your own (--images, --labels, --validation_images, "
            "--validation_labels), or leave --classes out"
        )


def _differ(ours, theirs):
    return json.loads(json.dumps(ours)) != theirs
