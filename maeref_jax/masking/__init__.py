"""Entropy -> hidden tokens, and what tokens are: squares, distances, symmetries, ways to fill them in. Besides the
clean-up of masks of tissue, which knows no tokens.
"""
