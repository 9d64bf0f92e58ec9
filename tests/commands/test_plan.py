"""commands/plan.py: what it counts is what a run really does."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from fakes import SHAPE, image_job, label_job, labels, refiner, segmenter, settings
from hypothesis import given
from hypothesis import strategies as st
from stacks import IMAGE, SIZE, use_models

from maeref_jax.commands import load_models, plan, speed
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import jobs, refining, segmenting
from maeref_jax.records import Refiner
from maeref_jax.volumes.formats.ome_zarr import create_ome_zarr
from maeref_jax.volumes.formats.store import open_store
from maeref_jax.volumes.volume import array_volume, write_tiff
from maeref_jax.volumes.windows import blocks, round_up, windows_touching

SPEED = speed.Speed(2.0, 100.0, 1000)


@given(
    st.tuples(st.integers(1, 5), st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 3), st.sampled_from([4, 8, 20]), st.sampled_from([4, 12, 64])),
    st.integers(1, 5),
)
def test_windows_are_those_that_the_blocks_touch(shape, block, batch):
    model = Refiner(None, (16, 16), (8, 8), 2, (), 4)
    inside = (shape[0], round_up(shape[1], 4), round_up(shape[2], 4))
    counts = [len(windows_touching(inside, (1, 16, 16), (1, 8, 8), box)) for box in blocks(shape, block)]
    filled = sum(round_up(count, batch) for count in counts)
    assert plan.windows_of(model, shape, block, batch) == (sum(counts), filled)


@pytest.mark.parametrize("agree_within_nm", [0.0, 60.0])
def test_a_plan_is_what_the_run_then_does(tmp_path, agree_within_nm):
    everywhere = label_job(tmp_path, entropy=array_volume(np.ones(SHAPE, np.float32), "entropy"))
    given = settings(objects=True, tiff_export=True, agree_within_nm=agree_within_nm)
    found = plan.plan(everywhere, None, refiner(), given, {"refine": SPEED})
    assert not list(tmp_path.iterdir()), "something was written"
    summary = refining.refine_volume(everywhere, None, refiner(), given)
    assert found["shape"] == SHAPE and found["blocks"] == len(blocks(SHAPE, given.block)) and found["hidden_share"] == 1
    assert found["windows"]["refine"]["all"] == summary["windows"]["refine"] == summary["windows"]["computed"]
    computed = found["windows"]["refine"]["computed"]
    assert computed >= summary["windows"]["computed"]
    assert (found["seconds"], found["operations"]) == (2.0 * computed, 100.0 * computed)
    stored, chunks = 0, 0
    for metadata in (tmp_path / "a.ome.zarr").rglob("zarr.json"):
        if '"array"' in metadata.read_text():
            array = open_store(metadata.parent, {"driver": "zarr3", "open": True}, "an array")
            stored += array.size * array.dtype.numpy_dtype.itemsize
            chunks += len(blocks(array.shape, array.chunk_layout.write_chunk.shape))
    tiffs, below, skeletons = 4 * np.prod(SHAPE), 4 * SHAPE[1] * SHAPE[2], np.prod(SHAPE)
    assert found["export_bytes"] == tiffs, "four stacks of uint8"
    marks = 2 * len(blocks(SHAPE, given.block))
    assert found["disk_bytes"] == stored + tiffs + below + skeletons + 4096 * (chunks + marks) + 4 * 2**20
    held = sum(path.stat().st_blocks * 512 for path in tmp_path.rglob("*") if path.is_file())
    assert held <= found["disk_bytes"], "it is the most"


def test_what_members_disagree_about_is_planned(tmp_path):
    given, speeds = image_job(tmp_path), {"segment": SPEED, "refine": SPEED}
    usual, more = (
        plan.plan(given, segmenter(), refiner(), settings(disagreement=asked), speeds)["windows"]
        for asked in (False, True)
    )
    assert more["segment"] == {name: 2 * count for name, count in usual["segment"].items()}
    assert more["refine"] == usual["refine"]


def test_what_is_segmented_again_for_its_probabilities_is_planned(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.01)
    counts, segment_block = [], segmenting.segment_block

    def counted(*given):
        means, windows = segment_block(*given)
        counts.append(windows)
        return means, windows

    models, block = (
        (segmenter(), refiner(("image", "probabilities"))),
        {"block": (2, 8, 8), "batch": 1, "agree_within_nm": 30.0},
    )
    given = settings(threshold=0.0, **block)
    settled = jobs.settled(given, models[1])
    speeds = {step: speed.measure(model, settled) for step, model in zip(("segment", "refine"), models, strict=True)}
    found = plan.plan(image_job(tmp_path), *models, given, speeds)
    monkeypatch.setattr(segmenting, "segment_block", counted)
    refining.refine_volume(image_job(tmp_path), *models, given)
    windows = {step: n["computed"] for step, n in found["windows"].items()}
    again = sum(counts) - windows["segment"]
    assert 0 < again <= windows["segment again"]
    both = (windows["segment"] + windows["segment again"]) * speeds["segment"].seconds
    assert found["seconds"] == pytest.approx(both + windows["refine"] * speeds["refine"].seconds)
    assert "  segment again: " in "\n".join(plan.described("a", found, 1))
    large, other = given._replace(block=(8, 512, 512)), (models[0], refiner())
    both, without = (plan.plan(image_job(tmp_path), *pair, large, speeds) for pair in (models, other))
    assert "segment again" not in without["windows"]
    # Two threads' probabilities of five classes, at least.
    assert both["block_bytes"] - without["block_bytes"] > 2 * 8 * 512**2 * 5 * 4


def test_slices_read_for_agreement_take_memory(tmp_path):
    apart, agreeing = (
        plan.plan(
            label_job(tmp_path, labels=array_volume(labels(), "labels", (30.0, 5.0, 4.0))),
            *(None, refiner(), settings(block=(8, 512, 512), agree_within_nm=nm), {"refine": SPEED}),
        )
        for nm in (0.0, 60.0)
    )
    # Two slices more on either side of eight, in two threads: at least their probabilities of five classes.
    assert agreeing["block_bytes"] - apart["block_bytes"] > 2 * 4 * 5 * 4 * 512**2


def test_only_windows_that_show_something_hidden_are_planned(tmp_path):
    job = label_job(tmp_path)
    given = settings(batch=1, block=(3, 64, 64))
    found = plan.plan(job, None, refiner(), given, {"refine": SPEED})
    summary = refining.refine_volume(job, None, refiner(), given)
    assert found["hidden_share"] == summary["hidden_share"]
    assert found["windows"]["refine"]["computed"] == summary["windows"]["computed"]
    painted = job._replace(entropy=None, hidden=array_volume(job.entropy.read(blocks(SHAPE, SHAPE)[0]) > 0, "hidden"))
    assert plan.plan(painted, None, refiner(), given, {"refine": SPEED})["hidden_share"] == found["hidden_share"]


def test_an_image_is_planned_for_the_worst_and_says_so(tmp_path):
    speeds = {"segment": SPEED, "refine": SPEED}
    found = plan.plan(image_job(tmp_path), segmenter(), refiner(), settings(num_parts=5), speeds)
    assert found["hidden_share"] is None and found["blocks_per_part"] == 3
    lines = "\n".join(plan.described("a", found, 5))
    assert "3 x 29 x 38 voxels of 30 x 5 x 4 nm" in lines and "12 blocks in 5 parts of up to 3" in lines
    assert "not known before it is segmented" in lines
    total = "\n".join(plan.described_total([found, found], tmp_path / "new", 5))
    assert "measured" in total and total.count("estimate, not measured") == 2 and not (tmp_path / "new").exists()


def test_where_no_network_is_at_work_no_hours_are_told(tmp_path):
    texture = load_models.by_name("texture", kind="segmenter")
    found = plan.plan(image_job(tmp_path), texture, None, settings(), {})
    assert plan.described_total([found], tmp_path, 1)[1:] == ["hours: not estimated, as no network is at work"]


def test_jobs_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(BadInput, match="needs image"):
        plan.plan(label_job(tmp_path), None, refiner(needs=("image",)), settings(), {})


def test_what_is_unpacked_is_planned(tmp_path):
    packed = dataclasses.replace(label_job(tmp_path).entropy, source=tmp_path / "entropy.npz")
    job = label_job(tmp_path, entropy=packed)
    found = plan.plan(job, None, refiner(), settings(), {"refine": SPEED})
    assert found["temporary_bytes"] == 4 * np.prod(SHAPE)
    assert "(TMPDIR) to unpack inputs" in "\n".join(plan.described("a", found, 1))


def test_models_are_timed_and_their_operations_counted(monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.1)
    for model in (segmenter(), refiner()):
        timed = speed.measure(model, jobs.settled(settings(), refiner()))
        assert timed.seconds > 0 and timed.bytes > 0


def test_operations_of_products_convolutions_and_loops():
    def product(x, y):
        return jnp.einsum("bij,bjk->bik", x, y)

    x, y = np.ones((3, 4, 5)), np.ones((3, 5, 6))
    once = 2 * 3 * 4 * 5 * 6
    assert speed.operations_of(jax.make_jaxpr(product)(x, y).jaxpr) == once

    def looped(x, y):
        total, _ = jax.lax.scan(lambda carry, _: (carry + jax.jit(product)(x, y), None), jnp.zeros((3, 4, 6)), None, 7)
        return jax.lax.cond(x.sum() > 0, lambda: total + product(x, y), lambda: total)

    assert speed.operations_of(jax.make_jaxpr(looped)(x, y).jaxpr) == 8 * once

    def convolved(image, kernel):
        return jax.lax.conv(image, kernel, (1, 1), "SAME")

    found = speed.operations_of(jax.make_jaxpr(convolved)(np.ones((2, 3, 8, 9)), np.ones((5, 3, 3, 3))).jaxpr)
    assert found == 2 * (2 * 5 * 8 * 9) * (3 * 3 * 3)


def test_dry_run_of_stacks_of_the_papers_size_writes_nothing(refine, monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.1)
    for i, depth in enumerate((74, 148, 234)):
        for name in ("labels", "entropy"):  # no chunk is written: they take no disk
            create_ome_zarr(f"{name}/{i:02}.ome.zarr", (depth, 2048, 2048), "uint8", voxel_size_nm=SIZE)
    before = sorted(Path().rglob("*"))
    command = ["--labels", "labels/*", "--entropy", "entropy/{stem}.ome.zarr", "--refiner", "mae"]
    code, out, err = refine(*command, "--output", "out", "--dry_run", "--num_parts", "4")
    assert (code, err) == (0, "")
    assert out.count(" x 2048 x 2048 voxels of 30 x 5 x 4 nm") == 3 and "00: 74 x" in out
    assert "all 3: disk at most" in out and "shared by 4 parts" in out and out.count("not measured") == 2
    assert sorted(Path().rglob("*")) == before


def test_a_dry_run_refuses_what_the_run_would_refuse(refine, monkeypatch):
    known = {"threshold": 0.9, "entropy_kind": "votes", "classes": 5, "members": 3}
    use_models(monkeypatch, refiner=refiner()._replace(chosen=known))
    code, _, err = refine(*IMAGE, "--dry_run")
    assert code == 2 and "belongs to entropy_kind votes, found mean" in err and err.count("\n") == 1


def test_one_input_that_does_not_fit_does_not_stop_the_plans_of_the_others(refine, monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.1)
    known = {"threshold": 0.9, "entropy_kind": "mean", "classes": 5, "members": 2}
    use_models(monkeypatch, refiner=refiner()._replace(chosen=known))
    for name, channels in (("a", 1), ("b", 2)):
        write = np.full((channels, 5, 4, 16, 16), 51, np.uint8)
        for member in range(channels):
            np.save(f"{name}{member}.npy", write[member])
    Path("table.csv").write_text("stem,probabilities\nb,b0.npy;b1.npy\na,a0.npy\n")
    given = ["--batch", "table.csv", "--refiner", "mae", "--output", "out", "--axes", "CZYX", "--dry_run"]
    code, out, err = refine(*given)
    assert code == 1 and "b: 4 x 16 x 16 voxels" in out and "all 1: disk" in out
    assert "error: a: the threshold 0.9 stored in" in err and err.count("error: ") == 1


def test_a_dry_run_warns_of_what_is_doubtful(refine, monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.1)
    code, out, err = refine(*IMAGE, "--voxel_size_nm", "30,50,40", "--dry_run")
    assert code == 0 and "a: 3 x 29 x 38 voxels of 30 x 50 x 40 nm" in out
    assert "warning: a has voxels of 30 x 50 x 40 nm (z y x), but runs/fake was trained on" in err


def test_a_dry_run_reads_small_files_and_says_what_ids_mean(refine, monkeypatch):
    monkeypatch.setattr(speed, "_TIMED_S", 0.1)
    write_tiff("a_labels.tif", np.where(labels() > 0, np.uint8(255), np.uint8(0)), SIZE)
    given = ["--labels", "a_labels.tif", "--entropy", "stacks/a_entropy.tif", "--refiner", "mae", "--output", "out"]
    code, out, err = refine(*given, "--dry_run")
    assert code == 2 and "255" in err and "--label_map" in err and "all 1" not in out
    code, out, _ = refine(*given, "--dry_run", "--label_map", "0:0,255:1")
    assert code == 0 and "all 1: disk" in out
    monkeypatch.setattr(plan, "READ_VX", 10)
    assert refine(*given, "--dry_run")[0] == 0, "nobody has looked"


@pytest.mark.parametrize("batch", [1, 4])
def test_a_mask_of_what_is_worked_on_is_planned(tmp_path, batch):
    """What a dry run says of it is what the run does."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:2, 3:14, :18] = 1
    given = settings(batch=batch, block=(1, 8, 12), agree_within_nm=30.0, threshold=0.0)
    models, speeds = (segmenter(), refiner()), {"segment": SPEED, "refine": SPEED}
    job = image_job(tmp_path, within=array_volume(mask, "mask"))
    found, every = (plan.plan(one, *models, given, speeds) for one in (job, job._replace(within=None)))
    assert not list(tmp_path.iterdir())
    summary = refining.refine_volume(job, *models, given, lambda line: None)
    told = summary["within"]
    windows = found["windows"]
    assert windows["segment"]["all"] == told["segment_windows"]["all"] == every["windows"]["segment"]["all"]
    if batch == 1:
        assert windows["segment"]["computed"] == told["segment_windows"]["computed"]
        assert (
            0 < summary["windows"]["computed"] <= windows["refine"]["computed"] < every["windows"]["refine"]["computed"]
        )
    assert windows["segment"]["computed"] >= told["segment_windows"]["computed"]
    assert found["seconds"] < every["seconds"] / 2
    lines = "\n".join(plan.described("a", found, 1))
    assert (
        f"  inside the mask: {mask.mean():.2%} of the voxels; {told['blocks']['skipped']} blocks are outside" in lines
    )
    own = label_job(tmp_path, entropy=array_volume(np.ones(SHAPE, np.float32), "entropy"), within=job.within)
    own, alone = own._replace(output=tmp_path / "own"), settings(batch=1, block=(1, 8, 12))
    found = plan.plan(own, None, refiner(), alone, {"refine": SPEED})
    summary = refining.refine_volume(own, None, refiner(), alone, lambda line: None)
    assert found["hidden_share"] == summary["hidden_share"] and len(found["within"].blocks) == 8
    assert found["windows"]["refine"]["computed"] == summary["windows"]["computed"]
    said = plan.said_before(own, None, refiner(), settings())
    assert any("become background" in text for text in said.warnings)


def test_texture_takes_no_network_also_where_it_is_asked_for_its_probabilities_again(tmp_path):
    texture = load_models.by_name("texture", kind="segmenter")
    again = load_models.by_name("unrefined", {**texture.settings["classes"]})
    assert "probabilities" in again.apply.needs
    found = plan.plan(image_job(tmp_path), texture, again, settings(), {"refine": SPEED})
    assert list(found["windows"]) == ["refine"] and found["block_bytes"] > 0
