"""Entropy -> hidden tokens, and what tokens are: squares, distances, symmetries, ways to fill them in."""
