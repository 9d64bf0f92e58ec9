"""Training that hides tokens and asks for them back, and the use of what has learned so: for every refiner that fills.

Which tokens are hidden, in training and in use alike:
  hidden    drawn at random or undecided (training), or chosen by entropy (use); labels never read
  unknown   every pixel is -1 (outside the volume) and not hidden
The loss counts known pixels that the ensemble was sure of, and ids that the network has no class for, such as
"ambiguous", are unknown: as context and as target. A refiner brings its network as a Filler and gets a Method and a
Refiner, so that all of them learn from the same batches, masks and pixels.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from maeref_jax.errors import BadInput
from maeref_jax.masking.filling import filled
from maeref_jax.masking.hidden import MASK_SHAPES, hidden_tokens, shaped_tokens, shapes_after
from maeref_jax.masking.symmetries import turned
from maeref_jax.masking.tokens import join_tokens, split_tokens, token_mean
from maeref_jax.records import Method, Refiner
from maeref_jax.samples.sampling import static_lengths


class Filler(NamedTuple):
    """A network that fills hidden tokens, as training and use reach it.

    init(key, tokens, hidden, grid, given) -> params, state
    logits(params, state, tokens, hidden, grid, given, lengths) -> class logits float32 (b, n, p, c) of every token, and
        bool (b, n), for which tokens they mean something: all hidden ones at least. lengths: static numbers of places
        for tokens that are read and for those that are filled in, neither less than any sample needs.
    tokens are int (b, n, p), -1 where unknown or hidden; hidden is bool (b, n); grid the (rows, columns) of tokens;
    given holds the planes that `needs` names, and in `init` the whole batch.
    hide(batch, key, tokens, grid) -> hidden, where the rule of training is another one than `hidden_in_training`
    original: by the rules of the original implementation labels under hidden tokens are handed on, for its distance
        from foreground, and pixels exactly at train_threshold count
    counts(tokens, hidden, grid, refilled) -> int32 (b, 2), how long `lengths` must be for each sample; refilled: for
        the samples too that some of the hidden tokens have been filled into. None where lengths do not matter.
    """

    init: Callable[..., tuple[Any, Any]]
    logits: Callable[..., tuple[Any, Any]]
    needs: tuple[str, ...] = ()
    hide: Callable[..., Any] | None = None
    original: bool = False
    counts: Callable[..., Any] | None = None


def check(settings, classes):
    """Raises BadInput for settings that no masked training of so many classes can work with."""
    weights, shapes = settings["class_weights"], settings["mask_shapes"]
    if settings["loss_over"] not in ("hidden", "near"):
        raise BadInput(f"loss_over must be hidden or near, found {settings['loss_over']!r}")
    if len(shapes) != len(MASK_SHAPES) or min(shapes) < 0 or not sum(shapes):
        raise BadInput(f"mask_shapes must be weights >= 0 of {', '.join(MASK_SHAPES)}, found {shapes}")
    if not 0 <= settings["curriculum"] <= 1:
        raise BadInput(f"curriculum is a share of the training, 0 to 1, found {settings['curriculum']}")
    if len(weights) < classes:
        raise BadInput(f"class_weights needs {classes} weights, one per class, found {weights}")


def real_classes(settings):
    """Number of classes without the ambiguous one, which is never learned and never an output."""
    classes = settings["classes"]
    return len(classes["names"]) - (classes["ambiguous"] >= 0)


def known(tokens):
    """Bool (b, n): tokens (b, n, p) with a label at all."""
    return (tokens >= 0).any(-1)


def only_classes(labels, classes):
    """Labels int32, those that are no id of `classes` classes -1."""
    labels = labels.astype(jnp.int32)
    return jnp.where(labels < classes, labels, -1)


def sample_keys(key, batch):
    """One key for every sample, by its number in the whole batch (design law 1)."""
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(batch["index"])


def hidden_in_training(settings, batch, key, tokens, grid):
    """Bool (b, n): known tokens that are drawn, and those too undecided to be context in use. Every sample draws its
    own.
    """
    count, weights = batch["shared"]["hidden_count"], tuple(settings["mask_shapes"])
    keys, token = sample_keys(key, batch), settings["token"]
    needs_donor = weights[2] > 0
    if settings["curriculum"]:
        weights = shapes_after(weights, settings["curriculum"], batch["shared"]["progress"])
    if needs_donor:
        donor = token_mean(batch["donor"], token)
        drawn = jax.vmap(lambda k, entropy: shaped_tokens(k, count, grid, weights, entropy))(keys, donor)
    else:
        drawn = jax.vmap(lambda k: shaped_tokens(k, count, grid, weights))(keys)
    undecided = hidden_tokens(token_mean(batch["entropy"], token), settings["threshold"])
    return (drawn & known(tokens)) | undecided.reshape(drawn.shape)


def pixel_weights(settings, labels, entropy, over, original=False):
    """Class weight float32 of every pixel that counts, 0 elsewhere: `over` (bool, or 1 for everywhere), known, and
    decided by the ensemble. labels, entropy: of one shape, any.
    """
    limit = settings["train_threshold"]
    reliable = entropy <= limit if original else entropy < limit
    weights = jnp.asarray(settings["class_weights"], jnp.float32)
    return jnp.where(over & reliable & (labels >= 0), weights[jnp.maximum(labels, 0)], 0.0)


def loss_and_logs(labels, logits, weight):
    """Sum of weighted negative log-likelihoods, sum of the weights, and logs. labels, weight: (…); logits: (…, c)."""
    target = jnp.maximum(labels, 0)
    likelihood = jnp.take_along_axis(jax.nn.log_softmax(logits), target[..., None], -1)[..., 0]
    counted = weight > 0
    right = ((logits.argmax(-1) == labels) & counted).sum()
    # Flat, because XLA sums small arrays of several axes number by number on a CPU, losing digits.
    return -(weight * likelihood).ravel().sum(), weight.ravel().sum(), {"accuracy": (right, counted.sum())}


def dice_sums(names, labels, logits, judged):
    """{"dice_NAME": (twice the overlap, sum of the areas)} of each of the classes `names` over `judged` pixels."""
    predicted, sums = jnp.where(judged, logits.argmax(-1), -1), {}
    for i, name in enumerate(names):
        found, wanted = predicted == i, (labels == i) & judged
        sums[f"dice_{name}"] = (2.0 * (found & wanted).sum(), (found.sum() + wanted.sum()).astype(jnp.float32))
    return sums


def method(settings, filler, classes):
    """The Method that trains a Filler of so many classes. Batches: samples.sampling.label_batch."""
    check(settings, classes)
    token = settings["token"]

    def prepare(batch, key):
        """Tokens with the labels they had, those with hidden ones blanked, which are hidden, the grid."""
        labels = only_classes(batch["labels"], classes)
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        tokens = split_tokens(labels, token)
        if filler.hide is not None:
            hidden = filler.hide(batch, key, tokens, grid)
        else:
            hidden = hidden_in_training(settings, batch, key, tokens, grid)
        return tokens, _blanked(filler, tokens, hidden), hidden, grid

    def forward(params, state, batch, key):
        tokens, seen, hidden, grid = prepare(batch, key)
        # How many are decoded is not known on the host, and nearly all are: crops are drawn for their foreground.
        lengths = batch["shared"]["slots"].shape[0], tokens.shape[1]
        logits, decoded = filler.logits(params, state, seen, hidden, grid, batch, lengths)
        over = {"hidden": hidden, "near": decoded}[settings["loss_over"]]
        entropy = split_tokens(batch["entropy"], token)
        weight = pixel_weights(settings, tokens, entropy, over[..., None], filler.original)
        return tokens, hidden, logits, weight, grid

    def init(key, batch):
        _, seen, hidden, grid = prepare(batch, key)
        return filler.init(key, seen, hidden, grid, batch)

    def loss(params, state, batch, key):
        tokens, _, logits, weight, _ = forward(params, state, batch, key)
        total, weight, logs = loss_and_logs(tokens, logits, weight)
        return total, weight, state, logs

    def evaluate(params, state, batch):
        """Loss and accuracy over what training counts, Dice per class over those pixels of them that lie in hidden
        tokens; masks drawn from a fixed key.
        """
        tokens, hidden, logits, weight, _ = forward(params, state, batch, jax.random.key(0))
        total, weight_sum, metrics = loss_and_logs(tokens, logits, weight)
        names = settings["classes"]["names"][:classes]
        judged = (weight > 0) & hidden[..., None]
        return {**metrics, "loss": (total, weight_sum), **dice_sums(names, tokens, logits, judged)}

    def preview(params, state, batch):
        tokens, hidden, logits, _, grid = forward(params, state, batch, jax.random.key(0))
        hidden = jnp.broadcast_to(hidden[..., None], tokens.shape)
        shown = {
            "input": jnp.where(hidden, -1, tokens),
            "hidden": hidden,
            "prediction": jnp.where(hidden, logits.argmax(-1), tokens),
            "truth": tokens,
        }
        pictures = {name: join_tokens(array, grid, token) for name, array in shown.items()}
        return {name: batch[name] for name in filler.needs} | pictures

    return Method(init, loss, evaluate, preview)


def refiner(settings, filler):
    """The Refiner of a workdir that holds a Filler's parameters."""
    token, use = settings["token"], settings["use"]
    if use["rounds"] < 1 or use["samples"] < 0:
        raise BadInput(f"use.rounds must be at least 1 and use.samples at least 0, found {use}")

    def prepare(labels, hidden):
        grid = (labels.shape[-2] // token, labels.shape[-1] // token)
        masked = split_tokens(hidden, token).any(-1)
        # Blanked before anything is derived from them: a hidden label cannot leak (design law 3).
        return _blanked(filler, split_tokens(labels, token), masked), masked, grid

    def refine(params, state, inputs, key, lengths=None):
        def fill(labels, hidden, *planes):
            tokens, masked, grid = prepare(labels, hidden)
            given = dict(zip(filler.needs, planes, strict=True))
            places = lengths or (tokens.shape[1],) * 2
            logits, _ = filler.logits(params, state, tokens, masked, grid, given, places)
            return join_tokens(jax.nn.softmax(logits[..., : real_classes(settings)]), grid, token)

        planes = tuple(inputs[name] for name in filler.needs)
        return filled(fill, inputs["labels"].astype(jnp.int32), inputs["hidden"], key, token, planes, **use)

    def lengths(labels, hidden):
        # Mirroring changes no count; transposing does, where a token is higher than wide.
        turns = (0, 1) if use["symmetries"] and labels.shape[1] == labels.shape[2] else (0,)
        sides = [prepare(turned(labels.astype(jnp.int32), turn), turned(hidden, turn)) for turn in turns]
        most = functools.reduce(jnp.maximum, [filler.counts(*side, use["rounds"] > 1) for side in sides])
        steps = jnp.asarray(static_lengths(sides[0][0].shape[1]), jnp.int32)
        return steps[jnp.searchsorted(steps, most)]

    return Refiner(
        refine,
        tuple(settings["window"]),
        tuple(settings["stride"]),
        dims=2,
        needs=filler.needs,
        token=token,
        sees_hidden=filler.original,
        lengths=None if filler.counts is None else lengths,
    )


def _blanked(filler, tokens, hidden):
    return tokens if filler.original else jnp.where(hidden[..., None], -1, tokens)
