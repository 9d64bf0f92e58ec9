"""What tells tissue from resin, each as a score of every voxel: texture's votes, single features, networks."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from maeref_jax.phantoms.tissue import TissueBlock
from maeref_jax.pipeline.blockwise import segment_block
from maeref_jax.pipeline.jobs import Model
from maeref_jax.pipeline.shown import doubts_about_image, seen_by
from maeref_jax.segmenters import texture
from maeref_jax.volumes import texture_filters
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

_NAME = "the block"  # what doubts call it


class Scored(NamedTuple):
    """Of one block: score float32 (z, y, x), higher in tissue; what a user is warned of; seconds that it took."""

    score: np.ndarray
    doubts: tuple[str, ...]
    seconds: float


class Method(NamedTuple):
    """score: (block, sizes) -> Scored; sizes: those that are tried on validation blocks, (window_nm, texture_nm,
    edge_nm) or None; probability: whether scores are; model: of a network.
    """

    score: Callable[[TissueBlock, Any], Scored]
    sizes: tuple
    probability: bool
    model: Model | None = None


def votes(settings: dict, sizes: tuple) -> Method:
    """Texture's votes. settings: of configs/texture.py."""

    def score(image, lengths):
        apply = texture.segmenter({**settings, "lengths": lengths})
        found = apply.statistics(image)
        return apply.predict(found, image, whole(image.shape))[..., 1].mean(0), found["doubts"]

    return Method(_timed(score), sizes, True)


def feature(name: str, sizes: tuple) -> Method:
    """One of texture_filters.FEATURES, smoothed, in its own unit; thresholds are chosen on validation blocks."""

    def score(image, lengths):
        filters = texture_filters.sizes_of(lengths, image.shape, image.voxel_size_nm)
        grey = image.read(whole(image.shape))
        levels = texture_filters.levels_of(grey, *np.percentile(grey, texture.PERCENTILES))
        return texture_filters.smooth(texture_filters.FEATURES[name](levels, filters), filters.texture), ()

    return Method(_timed(score), sizes, False)


def network(model: Model) -> Method:
    """An ensemble; the mean of its members."""

    def score(image, _):
        doubts = doubts_about_image(_NAME, image, model, None)
        variables, everything = (model.params, model.state), whole(image.shape)
        means, _ = segment_block(model.apply, variables, None, seen_by(model, image), everything, 8)
        return means[..., 1], doubts

    return Method(_timed(score), (None,), True, model)


def _timed(score):
    def timed(block, sizes):
        began = time.monotonic()
        lengths = sizes and dict(zip(("window_nm", "texture_nm", "edge_nm"), sizes, strict=True))
        found, doubts = score(array_volume(block.image, _NAME, block.voxel_size_nm), lengths)
        return Scored(found.astype(np.float32), tuple(doubts), time.monotonic() - began)

    return timed
