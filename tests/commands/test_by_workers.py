"""commands/by_workers.py: what is reported as done counts where it is marked, and nowhere else."""

from pathlib import Path

import numpy as np
import pytest
from stacks import IMAGE

from maeref_jax.pipeline import workers
from maeref_jax.pipeline.refining import open_result
from maeref_jax.volumes.windows import whole

pytest.importorskip("daisy")


def test_blocks_that_were_taken_and_not_done_are_done(refine, monkeypatch):
    code, _, _ = refine(*IMAGE)
    where = []
    monkeypatch.setattr(workers, "share_out", lambda *given, **how: where.append(how))  # whoever took them all
    given = ["--output", "many", "--workers", "3", "--config.worker_host=cluster", "--config.worker_command=srun"]
    code, out, err = refine(*IMAGE, *given)
    assert code == 0 and "relabelled" in out and where == [{"local": False, "host": "cluster"}]
    assert err.count("blocks were reported as done and have no mark") == 1
    for role in ("initial", "refined", "hidden"):
        one, many = (open_result(Path(folder), "a", role) for folder in ("out", "many"))
        np.testing.assert_array_equal(one.read(whole(one.shape)), many.read(whole(one.shape)))
