"""One member of an ensemble as a workdir of its own, an ensemble of one, for use by itself:

    maeref export-member --ensemble runs/ensemble --member 2 --output runs/member_2

It predicts, bit for bit, what that member says inside the ensemble. To train it further, start from it (--init_from).
"""

import json
import uuid

import numpy as np
from etils import epath

from maeref_jax.errors import BadInput
from maeref_jax.pipeline import methods
from maeref_jax.segmenters.ensemble import ambiguous_taught, select_members
from maeref_jax.training import checkpoint, workdir
from maeref_jax.training.state import Progress, TrainState


def export_member(ensemble, member, output):
    """Write member number `member`, from 0, of the workdir `ensemble` to the new workdir `output`.

    Raises BadInput if `ensemble` holds no ensemble or no such member, or `output` is there already.
    """
    model = methods.load_model(ensemble, "segmenter")
    methods.tell_doubts(model)
    members = model.settings["members"]
    if not 0 <= member < members:
        raise BadInput(f"{ensemble} has the members 0 … {members - 1}, found {member}")
    place = epath.Path(output)
    if place.exists():
        raise BadInput(f"{output} is there already; give a new --output")
    own = model.facts["member_volumes"][member]
    lists = [[model.facts["volumes"].index(name) for name in own]]
    settings = {**model.settings, "members": 1, "member_chunk": 0, "subsets": "lists", "member_lists": lists}
    settings["ambiguous_as"] = ambiguous_taught(model.settings)[member]
    facts = {
        **model.facts,
        "volumes": sorted(set(own)),
        "member_volumes": [own],
        "exported_from": {"workdir": str(ensemble), "member": member},
    }
    params, state = select_members(model.params, model.state, [member])
    step = np.int32(checkpoint.load_best(ensemble).step)
    part = place.parent / f".{place.name}.{uuid.uuid4().hex[:12]}.part"  # whole or not at all
    try:
        with checkpoint.open_checkpoints(part) as checkpoints:
            # There is nothing to continue with: a checkpoint for use, its score that of no evaluation.
            checkpoint.save(checkpoints, TrainState(step, params, state, (), (), Progress()), settings, score=0.0)
        card = f"# Member {member} of {ensemble}\n\n{json.dumps(facts, indent=1)}\n"
        workdir.write_text(part / "model_card.md", card)
        workdir.write_config(part, settings, facts)
        part.rename(place)
    finally:
        if part.exists():
            part.rmtree()
