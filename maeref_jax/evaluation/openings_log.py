"""One evaluation at a time in a workdir, and the log of openings of a test set: who looks often chooses by it, so every
look is written down (EVALUATION).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from maeref_jax.results import claim

LOG = "openings.log"


def check_free(workdir: Path) -> None:
    """Raises CannotGoOn where a living process evaluates in that workdir. Changes nothing."""
    claim.check_free(*_claimed(workdir))


@contextmanager
def opened(workdir: Path, stems: list[str], models: dict[str, str]) -> Iterator[None]:
    """WORKDIR is ours while inside, and openings.log has one line more: when, on which volumes, with which models.
    Raises as `check_free` does.
    """
    with claim.alone(*_claimed(workdir)):
        now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        names = ", ".join(f"{role} {path}" for role, path in models.items())
        with open(Path(workdir) / LOG, "a", encoding="utf-8") as log:
            log.write(f"{now}  volumes {', '.join(stems)}  models {names}\n")
        yield


def _claimed(workdir):
    return Path(workdir) / "claims", "evaluating", f"{workdir} is being evaluated already"
