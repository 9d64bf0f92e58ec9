"""python -m maeref_jax.commands COMMAND …: `maeref` where the console script is not on the path."""

from maeref_jax.commands.main import start

start()
