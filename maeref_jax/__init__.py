"""Refine biologically inconsistent segmentation masks with masked autoencoders.

    image -> segmenters/ (ensemble of U-Nets) -> uncertainty/ -> masking/ -> refiners/ (masked autoencoder) -> metrics/

From Python: load_model, segment, refine, judge take and give numpy arrays, see commands/arrays.py and judging.py.

Glossary of axis letters, the same in names and in einsum strings:
`b` batch, `k` ensemble member, `z y x` voxels, `c` class, `n` tokens, `p` pixels in a token, `d` width.
Order is always ...zyx. Unknown is -1 in memory (int16) and 255 on disk. Entropy is normalised to [0, 1].
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
# Numpy in, numpy out, by their files in commands/. Imported when first asked for: `import maeref_jax` is quick.
_FROM_PYTHON = dict.fromkeys(("Refinement", "Segmentation", "load_model", "refine", "segment"), "arrays")
_FROM_PYTHON |= dict.fromkeys(("Judgement", "judge"), "judging")
__all__ = sorted(_FROM_PYTHON)


def __getattr__(name: str) -> Any:
    if name in _FROM_PYTHON:
        return getattr(import_module(f"maeref_jax.commands.{_FROM_PYTHON[name]}"), name)
    raise AttributeError(f"module 'maeref_jax' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *_FROM_PYTHON])
