"""Held-out volumes -> the tables of the protocol, one file per question."""
