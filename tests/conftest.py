"""What several tests share: where real data may be found, and the repository's root."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# The first example compiles; a deadline would time the compiler.
settings.register_profile("maeref", deadline=None, max_examples=25)
settings.load_profile("maeref")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session")
def root():
    return ROOT


@pytest.fixture(scope="session")
def real_data():
    """The folder of real microscopy; tests that need it are skipped where there is none."""
    folder = Path(os.environ.get("MAEREF_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} does not exist (set MAEREF_DATA)")
    return folder
