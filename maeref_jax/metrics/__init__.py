"""Labels -> numbers, with the truth beside them. Class ids are arguments; no jax."""
