"""Checkpoints of the original implementation, read without PyTorch."""
