"""python evaluate.py …: the command `maeref evaluate` in a checkout, installed or not."""

from maeref_jax.commands.main import start

if __name__ == "__main__":
    start("evaluate")
