"""The log of openings of a test set: who looks often chooses by it, so every look is written down (EVALUATION)."""

from datetime import UTC, datetime
from pathlib import Path

LOG = "openings.log"


def write_log(workdir: Path, stems: list[str], models: dict[str, str]) -> None:
    """Appends one line to WORKDIR/openings.log: when, on which volumes, with which models."""
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    names = ", ".join(f"{role} {path}" for role, path in models.items())
    with open(Path(workdir) / LOG, "a", encoding="utf-8") as log:
        log.write(f"{now}  volumes {', '.join(stems)}  models {names}\n")
