"""The public data that configs name: where they are looked for, and what to say where they are not."""

import os
from pathlib import Path

VARIABLE = "MAEREF_DATA"  # as in configs/defaults.py
# Who keeps them; the configs say which files are meant.
ADDRESSES = {
    "vnc_sstem": "https://doi.org/10.6084/m9.figshare.856713",
    "epfl_hippocampus": "https://www.epfl.ch/labs/cvlab/data/data-em/",
    "mef_cristae": "https://doi.org/10.1371/journal.ppat.1011829",
}


def hint(path: str | Path) -> str:
    """What to do about a missing file where it is one of these, to be put behind "no such file"; else ""."""
    name = next((part for part in Path(path).parts if part in ADDRESSES), None)
    if name is None:
        return ""
    here = f"{VARIABLE}={os.environ[VARIABLE]}" if VARIABLE in os.environ else f"data/, as {VARIABLE} is not set"
    return (
        f"; these public data are looked for in {here}: get them from {ADDRESSES[name]} and set {VARIABLE} to the "
        f"folder that holds {name}/ (export {VARIABLE}=FOLDER; in PowerShell $env:{VARIABLE} = 'FOLDER')"
    )
