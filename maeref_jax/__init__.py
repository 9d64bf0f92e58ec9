"""Refine biologically inconsistent segmentation masks with masked autoencoders.

    image -> segmenters/ (ensemble of U-Nets) -> uncertainty/ -> masking/ -> refiners/ (masked autoencoder) -> metrics/

Glossary of axis letters, the same in names and in einsum strings:
`b` batch, `k` ensemble member, `z y x` voxels, `c` class, `n` tokens, `p` pixels in a token, `d` width.
Order is always ...zyx. Unknown is -1 in memory (int16) and 255 on disk. Entropy is normalised to [0, 1].
"""

__version__ = "0.1.0"
