"""Morphology along z as a refiner: it learns nothing, and looks at whole slices (masking/continuity.py has the rules).

As published it works everywhere, on every slice that is not labelled, and knows no hidden places: it sees what lies
there.
"""

from maeref_jax.masking import continuity
from maeref_jax.records import Refiner
from maeref_jax.volumes.labels import real_classes

ALL = 2**30  # slices: what the original order depends on


def refiner(settings):
    """The Refiner of a config of configs/continuity.py."""
    classes, lengths = real_classes(settings["classes"]), settings["morphology"]
    continuity.rules_of(**lengths)  # wrong ones are found here

    def slices(voxel_size_nm):
        rules = continuity.rules_of(voxel_size_nm, **lengths)

        def stream(read, depth, labelled, start):
            return continuity.continued_slices(read, depth, labelled, classes, rules, start)

        return (ALL if rules.order == "original" else continuity.halo(rules) + rules.reach), stream

    box = (settings["token"],) * 2
    return Refiner(
        *(None, box, box),
        dims=2,
        needs=(),
        token=settings["token"],
        sees_hidden=True,
        everywhere=settings["use"]["everywhere"],
        slices=slices,
    )
