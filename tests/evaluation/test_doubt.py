"""doubt.py: counts of members, mean and vote by hand, slabs that add up, tables that say it."""

import numpy as np
import pytest

from maeref_jax.evaluation import doubt
from maeref_jax.metrics import calibration
from maeref_jax.pipeline import jobs
from maeref_jax.pipeline.blockwise import segment_block
from maeref_jax.records import Segmenter
from maeref_jax.uncertainty.entropy import KINDS, member_means
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import Box

CLASSES = {"names": ["background", "thing", "ambiguous"], "colours": [[0, 0, 0]] * 3, "ambiguous": 2}


def drawn(seed=0, shape=(3, 8, 10)):
    rng = np.random.default_rng(seed)
    members = rng.dirichlet(np.ones(3), (4, *shape)).astype(np.float32)
    return members, rng.integers(-1, 2, shape)


def counted(members, truth):
    return doubt.count_slab(list(members), {kind: np.asarray(member_means(members, kind)) for kind in KINDS}, truth, 2)


def test_members_mean_and_vote_are_judged_over_the_real_classes():
    members, truth = drawn()
    found = counted(members, truth)
    known = truth >= 0
    labels = members[1][..., :2].argmax(-1)
    assert found.confusions["member 1"][1, 0] == ((truth == 1) & (labels == 0)).sum()
    mean = members.mean(0)
    assert found.confusions["mean"].trace() == ((mean[..., :2].argmax(-1) == truth) & known).sum()
    votes = np.stack([(members.argmax(-1) == c).sum(0) for c in range(2)], -1)
    assert found.confusions["majority vote"].trace() == ((votes.argmax(-1) == truth) & known).sum()
    assert (
        found.confidences["mean"].voxels.sum()
        == known.sum()
        == found.doubts["votes", None].right.sum() + (found.doubts["votes", None].wrong.sum())
    )


def test_of_equally_doubtful_voxels_so_many_are_kept_as_were_asked_for():
    right, wrong = np.zeros(256, np.int64), np.zeros(256, np.int64)
    right[10], right[200], wrong[200] = 75, 15, 10  # a level of 25 voxels, of which only some belong to the surest 80
    found = doubt.risks(calibration.DoubtCounts(right, wrong))
    np.testing.assert_allclose(found, [2 / 80, 6 / 90, 8 / 95])
    same = np.where(np.arange(256) == 7, 90, 0), np.where(np.arange(256) == 7, 10, 0)
    np.testing.assert_allclose(doubt.risks(calibration.DoubtCounts(*same)), 0.1)  # no idea: everywhere the same
    assert np.isnan(doubt.risks(calibration.DoubtCounts(right * 0, wrong * 0))).all()
    assert doubt.tables(counted(*drawn()), ("background", "thing"))[1].rows[0][-1].endswith(" %")


def test_slabs_add_up_to_the_volume():
    members, truth = drawn()
    parts = [counted(members[:, i : i + 1], truth[i : i + 1]) for i in range(3)]
    whole, total = counted(members, truth), doubt.add(doubt.add(parts[0], parts[1]), parts[2])
    for name, value in whole.confusions.items():
        np.testing.assert_array_equal(value, total.confusions[name])
    for name, value in whole.doubts.items():
        np.testing.assert_array_equal(np.stack(value), np.stack(total.doubts[name]))


def test_a_model_is_read_slab_by_slab_and_better_entropy_scores_higher():
    def predict(params, state, image):
        import jax.numpy as jnp

        level = jnp.stack([image, image * 0.8 + 0.1, image * 0.6 + 0.2])
        return jnp.stack([1 - level, level, 0 * level], -1)

    rng = np.random.default_rng(0)
    image = rng.uniform(0, 1, (5, 16, 16)).astype(np.float32)
    truth = (rng.uniform(0, 1, image.shape) < image).astype(np.int16)  # an honest model: right as often as it is sure
    settings = {"classes": CLASSES, "members": 3}
    model = jobs.Model("E", "ensemble", settings, {}, {}, Segmenter(predict, (16, 16), (8, 8), 2), {})
    found = doubt.count(model, array_volume(image, "image"), truth, depth=2)
    assert found.confusions["mean"].sum() == image.size
    accuracy, detection, honesty = doubt.tables(found, ("background", "thing"))
    assert len(accuracy.rows) == 5 and len(detection.rows) == 4
    assert float(detection.rows[0][1]) > 0.65, "entropy of the mean finds errors"
    assert float(detection.rows[1][1]) == pytest.approx(0.5), "three members that always agree cast no vote"
    errors = {row[0]: float(row[3]) for row in honesty.rows}
    box = Box((0, 0, 0), (2, 16, 16))
    members, means = doubt.probabilities(model, array_volume(image, "image"), box)
    source = (model.apply, ({}, {}))
    for i, found in enumerate(members):
        np.testing.assert_allclose(
            found, segment_block(*source, (i,), array_volume(image, "image"), box, 8)[0], atol=1e-6
        )
    for kind in KINDS:
        wanted, _ = segment_block(*source, None, array_volume(image, "image"), box, 8, kind)
        np.testing.assert_allclose(means[kind], wanted, atol=1e-6)
    alone = model._replace(settings={**settings, "members": 1})  # orientations of one, handed on as if members
    one, same = doubt.probabilities(alone, array_volume(image, "image"), box)
    assert len(one) == 1 and all((same[kind] == means[kind]).all() for kind in KINDS)
    assert errors["member 0"] < 0.05 < errors["member 2"]
