"""How parameters move: the optimisers, their learning-rate schedules, clipping. Ensemble members never mix (law 6)."""

import jax
import optax

from maeref_jax.errors import BadInput

# What turns a gradient into a direction; the rate, and weight decay as in AdamW, are applied to all of them alike.
DIRECTIONS = {
    "adamw": lambda s: optax.scale_by_adam(s["b1"], s["b2"]),
    "adam": lambda s: optax.scale_by_adam(s["b1"], s["b2"]),
    "adamax": lambda s: optax.scale_by_adamax(s["b1"], s["b2"]),
    "rmsprop": lambda s: optax.scale_by_rms(s["b2"]),
}
SCHEDULES = ("constant", "cosine", "step", "plateau")


def learning_rate(settings):
    """step -> rate, for `settings` (rate, schedule, warmup_steps, decay, decay_steps) and the number of `steps`.

    After a linear warm-up: constant; cosine to 0 at the last step; step, times `decay` every `decay_steps`. A plateau
    is constant here: the loop multiplies the rate by `decay` when validation has not improved for a while.
    Raises BadInput for an unknown schedule.
    """
    if settings["schedule"] not in SCHEDULES:
        raise BadInput(f"optimizer.schedule must be one of {', '.join(SCHEDULES)}, found {settings['schedule']!r}")
    warmup, steps, rate = settings["warmup_steps"], settings["steps"], settings["rate"]
    after = {
        "constant": lambda: optax.constant_schedule(rate),
        "plateau": lambda: optax.constant_schedule(rate),
        "cosine": lambda: optax.cosine_decay_schedule(rate, max(steps - warmup, 1)),
        "step": lambda: optax.exponential_decay(rate, settings["decay_steps"], settings["decay"], staircase=True),
    }[settings["schedule"]]()
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, rate, warmup), after], [warmup])


def build_optimizer(settings, members=None):
    """The optax optimiser of `settings` (name, clip, weight_decay, b1, b2 and those of `learning_rate`).

    clip: largest norm of a gradient, 0 for none; with `members`, every ensemble member is clipped by itself.
    Raises BadInput for an unknown name, or weight decay with plain Adam.
    """
    name = settings["name"]
    if name not in DIRECTIONS:
        raise BadInput(f"optimizer.name must be one of {', '.join(DIRECTIONS)}, found {name!r}")
    if name == "adam" and settings["weight_decay"]:
        raise BadInput(f"adam has no weight decay, found {settings['weight_decay']}; set it to 0 or take adamw")
    clip = optax.clip_by_global_norm(settings["clip"]) if settings["clip"] else optax.identity()
    return optax.chain(
        # The rest works number by number, so only the clipping has to be told about the member axis.
        clip if members is None else _per_member(clip),
        DIRECTIONS[name](settings),
        optax.add_decayed_weights(settings["weight_decay"]) if settings["weight_decay"] else optax.identity(),
        optax.scale_by_learning_rate(learning_rate(settings)),
    )


def _per_member(transformation):
    """A transformation without state, applied to every slice of the leading axis by itself."""

    def update(updates, state, params=None):
        return jax.vmap(lambda u: transformation.update(u, state)[0])(updates), state

    return optax.GradientTransformation(transformation.init, update)
