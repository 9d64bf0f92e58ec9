"""What pyproject.toml cannot say: configs/ is installed inside the package, where `--config mae` finds it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["maeref_jax", "maeref_jax.*"]), "maeref_jax.configs"],
    package_dir={"maeref_jax.configs": "configs"},
)
