"""The parameters of the original under its own names, and the same in our tree.

Its dense kernels are (out, in), ours (in, out); its embedding is a convolution (d, 1, token, token), ours a dense
layer on the pixels of a token; its blocks are numbered, ours stacked on a leading axis.
"""

from typing import NamedTuple

import numpy as np

from maeref_jax.errors import BadInput
from maeref_jax.models.blocks import sine_cosine_positions

OUTSIDE = {
    "cls_token": ("class_token",),
    "mask_token": ("mask_token",),
    "patch_embed.proj.weight": ("embed", "kernel"),
    "patch_embed.proj.bias": ("embed", "bias"),
    "norm.weight": ("encoder", "norm", "scale"),
    "norm.bias": ("encoder", "norm", "bias"),
    "decoder_embed.weight": ("to_decoder", "kernel"),
    "decoder_embed.bias": ("to_decoder", "bias"),
    "decoder_norm.weight": ("decoder", "norm", "scale"),
    "decoder_norm.bias": ("decoder", "norm", "bias"),
    "decoder_pred.0.weight": ("head", "kernel"),
    "decoder_pred.0.bias": ("head", "bias"),
}
LAYERS = {
    "norm1": "norm1",
    "attn.qkv": "qkv",
    "attn.proj": "out",
    "norm2": "norm2",
    "mlp.fc1": "mlp1",
    "mlp.fc2": "mlp2",
}
POSITIONS = ("pos_embed", "decoder_pos_embed")


class Sizes(NamedTuple):
    """What the tensors themselves say. window: side in pixels; the rest as in configs/mae.py; classes: a number."""

    window: int
    token: int
    classes: int
    encoder_width: int
    encoder_depth: int
    decoder_width: int
    decoder_depth: int
    mlp_ratio: float


def without_prefix(tensors):
    """The tensors whose names share the prefix that "cls_token" has ("model." in Lightning files), without it.

    Raises BadInput where there is no cls_token, or a tensor without the prefix.
    """
    prefixes = [name.removesuffix("cls_token") for name in tensors if name.endswith("cls_token")]
    if len(prefixes) != 1:
        raise BadInput(f"expected one tensor named …cls_token, found {len(prefixes)}: no MAE of the original")
    strange = [name for name in tensors if not name.startswith(prefixes[0])]
    if strange:
        raise BadInput(f"tensors whose names do not start with {prefixes[0]!r}, as the model's do: {listed(strange)}")
    return {name.removeprefix(prefixes[0]): value for name, value in tensors.items()}


def sizes(tensors):
    """The Sizes of a state dict without prefix. Raises BadInput naming every tensor that is missing, extra, mis-shaped,
    no numbers, or a position table other than the fixed one.
    """

    def shape(name, rank):
        if name not in tensors or tensors[name].ndim != rank:
            found = tensors[name].shape if name in tensors else "nothing"
            raise BadInput(f"{name}: expected a tensor with {rank} axes, found {found}: no MAE of the original")
        return tensors[name].shape

    width, _, token, _ = shape("patch_embed.proj.weight", 4)
    decoder_width = shape("mask_token", 3)[-1]
    hidden, places = shape("blocks.0.mlp.fc1.weight", 2)[0], shape("pos_embed", 3)[1] - 1
    side = round(places**0.5)
    if side**2 != places:
        raise BadInput(f"pos_embed has {places} places beside the class token's, expected a square number")
    classes = shape("decoder_pred.0.weight", 2)[0] // token**2
    depths = [_depth(tensors, "blocks."), _depth(tensors, "decoder_blocks.")]
    found = Sizes(side * token, token, classes, width, depths[0], decoder_width, depths[1], hidden / width)
    check_tensors(tensors, found)
    return found


def expected_shapes(sizes):
    """{name: shape} of a state dict, position tables included."""
    s, pixels, places = sizes, sizes.token**2, (sizes.window // sizes.token) ** 2
    shapes = {
        "cls_token": (1, 1, s.encoder_width),
        "mask_token": (1, 1, s.decoder_width),
        "pos_embed": (1, places + 1, s.encoder_width),
        "decoder_pos_embed": (1, places + 1, s.decoder_width),
        "patch_embed.proj.weight": (s.encoder_width, 1, s.token, s.token),
        "patch_embed.proj.bias": (s.encoder_width,),
        "decoder_embed.weight": (s.decoder_width, s.encoder_width),
        "decoder_embed.bias": (s.decoder_width,),
        "decoder_pred.0.weight": (pixels * s.classes, s.decoder_width),
        "decoder_pred.0.bias": (pixels * s.classes,),
    }
    for prefix, width, depth in (
        ("", s.encoder_width, s.encoder_depth),
        ("decoder_", s.decoder_width, s.decoder_depth),
    ):
        hidden = int(s.mlp_ratio * width)
        outs = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
        outs |= {"mlp.fc1": (hidden, width), "mlp.fc2": (width, hidden)}
        vectors = [f"{prefix}norm"] + [
            f"{prefix}blocks.{i}.{name}" for i in range(depth) for name in ("norm1", "norm2")
        ]
        for name in vectors:
            shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
        for name, out in ((f"{prefix}blocks.{i}.{layer}", out) for i in range(depth) for layer, out in outs.items()):
            shapes |= {f"{name}.weight": out, f"{name}.bias": out[:1]}
    return shapes


def check_tensors(tensors, sizes):
    """Raises BadInput for the first kind of difference from what a state dict of these Sizes holds."""
    expected = expected_shapes(sizes)
    wrong = [
        f"{k} {tensors[k].shape} instead of {v}" for k, v in expected.items() if k in tensors and tensors[k].shape != v
    ]
    for what, names in (
        ("missing tensors", sorted(expected.keys() - tensors.keys())),
        ("tensors that the model does not have", sorted(tensors.keys() - expected.keys())),
        ("tensors of another shape", wrong),
        ("tensors that are no finite numbers", [name for name, value in tensors.items() if not _is_finite(value)]),
    ):
        if names:
            raise BadInput(f"{what}: {listed(names)}")
    other = [name for name in POSITIONS if not _is_fixed(tensors[name], sizes)]
    if other:
        raise BadInput(f"position tables other than the fixed ones: {listed(other)}")


def listed(names, most=8):
    """Names for a message; of many the first ones."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def to_params(tensors):
    """Our parameter tree, float32, of a state dict that `check_tensors` accepts."""
    params: dict = {}
    for names, path in _pairs({name for name in tensors if name not in POSITIONS}):
        leaves = [_ours(name, tensors[name].astype(np.float32)) for name in names]
        *groups, last = path
        place = params
        for group in groups:
            place = place.setdefault(group, {})
        place[last] = np.stack(leaves) if _is_stacked(path) else leaves[0]
    return params


def to_tensors(params, token):
    """The inverse of to_params, without position tables: {torch name: array} of a tree of that structure."""
    depths = {room: len(params[room]["blocks"]["norm1"]["scale"]) for room in ("encoder", "decoder")}
    names = set(OUTSIDE)
    for prefix, room in (("blocks", "encoder"), ("decoder_blocks", "decoder")):
        for i in range(depths[room]):
            names |= {f"{prefix}.{i}.{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")}
    tensors = {}
    for torch_names, path in _pairs(names):
        leaf = params
        for key in path:
            leaf = leaf[key]
        leaves = leaf if _is_stacked(path) else [leaf]
        tensors |= {name: _theirs(name, np.asarray(one), token) for name, one in zip(torch_names, leaves, strict=True)}
    return tensors


def _pairs(names):
    """(torch names, path in our tree): one name, or those of all blocks in their order."""
    stacks: dict[tuple, dict[int, str]] = {}
    for name in names:
        if name in OUTSIDE:
            yield [name], OUTSIDE[name]
            continue
        room, number, rest = name.split(".", 2)
        layer, kind = rest.rsplit(".", 1)
        leaf = kind if kind == "bias" else "scale" if layer.startswith("norm") else "kernel"
        path = ({"blocks": "encoder", "decoder_blocks": "decoder"}[room], "blocks", LAYERS[layer], leaf)
        stacks.setdefault(path, {})[int(number)] = name
    for path, numbered in stacks.items():
        yield [numbered[i] for i in sorted(numbered)], path


def _is_stacked(path):
    return "blocks" in path


def _ours(name, tensor):
    if name == "patch_embed.proj.weight":
        return tensor.reshape(len(tensor), -1).T
    return tensor.T if tensor.ndim == 2 else tensor


def _theirs(name, leaf, token):
    if name == "patch_embed.proj.weight":
        return leaf.T.reshape(-1, 1, token, token)
    return leaf.T if leaf.ndim == 2 else leaf


def _depth(tensors, prefix):
    numbers = {
        int(part) for name in tensors if name.startswith(prefix) for part in [name.split(".")[1]] if part.isdigit()
    }
    return max(numbers, default=-1) + 1


def _is_finite(value):
    return value.dtype.kind == "f" and bool(np.isfinite(value).all())


def _is_fixed(table, sizes):
    """Whether a position table holds 0 for the class token, then the fixed positions."""
    side = sizes.window // sizes.token
    fixed = sine_cosine_positions((side, side), table.shape[-1])
    return not table[0, 0].any() and np.abs(table[0, 1:] - fixed).max() <= 1e-5
