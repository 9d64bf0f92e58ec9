"""A mask of what is worked on: the same bits inside, background outside, and nothing computed for it."""

import json

import jax
import numpy as np
import pytest
from fakes import (
    SCHEME,
    SHAPE,
    image,
    image_job,
    label_job,
    labels,
    refiner,
    result,
    right_in_rows,
    rows,
    segmenter,
    settings,
)
from hypothesis import given
from hypothesis import strategies as st

from maeref_jax.audit.trust import Limits
from maeref_jax.errors import BadInput
from maeref_jax.pipeline import asking, blockwise, methods, passes, refining, segmenting
from maeref_jax.volumes.volume import array_volume
from maeref_jax.volumes.windows import whole

SEGMENTED = ("initial", "entropy", "hidden")
BLOCK = (1, 8, 12)


def tissue(ragged=False):
    """A corner of the volume: of the blocks of BLOCK some are inside, some outside, some both. ragged: no multiple of
    tokens, another one in every slice.
    """
    mask = np.zeros(SHAPE, np.uint8)
    mask[:2, :12, :20] = 1
    if ragged:
        mask[0, 10:17, 9:23] = mask[2, 3:7, 30:] = 1
    return mask


def within(mask, name="mask"):
    return array_volume(mask, name)


def silent(line):
    pass


def made(directory, mask=None, job=image_job, model=None, **changes):
    """All arrays of a run, by role, and its summary."""
    given = job(directory, within=None if mask is None else within(mask))
    segments = segmenter() if job is image_job else None
    summary = refining.refine_volume(given, segments, model or refiner(), settings(**changes), silent)
    roles = (*SEGMENTED, "refined", "confidence", *(role for role in ("disagreement", "tested") if role in changes))
    roles = [role for role in roles if (directory / "a.ome.zarr").exists()]
    return {role: result(directory, role) for role in roles}, summary


@pytest.mark.parametrize("ragged", [False, True])
def test_inside_are_the_same_bits_and_outside_is_sure_background(tmp_path, ragged):
    mask = tissue(ragged) > 0
    plain, without = made(tmp_path / "plain")
    found, summary = made(tmp_path / "within", mask, block=BLOCK)
    for role in ("initial", "entropy"):
        np.testing.assert_array_equal(found[role][mask], plain[role][mask], role)
    assert plain["initial"][~mask].any() and plain["entropy"][~mask].any()
    for role, array in found.items():
        assert not array[~mask].any(), f"{role} outside"
    assert found["hidden"].any() and (found["refined"] != found["initial"]).any()
    assert "within" not in without and "within" not in without["made_by"]["inputs"]
    assert summary["voxels"] == mask.sum() and summary["hidden_share"] == found["hidden"].sum() / mask.sum()
    told = summary["within"]
    assert told["path"] == "mask" and told["inside_share"] == mask.mean() and told["outside"] == (~mask).sum()
    assert 0 < told["blocks"]["skipped"] < told["blocks"]["all"]
    counted = summary["classes_changed"].values()
    assert sum(one["voxels_initial"] for one in counted) == sum(one["voxels_refined"] for one in counted) == mask.sum()


def test_a_mask_of_everything_changes_nothing_and_is_doubted(tmp_path):
    plain, without = made(tmp_path / "plain", disagreement=True)
    found, summary = made(tmp_path / "within", np.ones(SHAPE, np.uint8), disagreement=True)
    for role, array in plain.items():
        np.testing.assert_array_equal(found[role], array, role)
    assert [text for text in summary["warnings"] if "mask excludes nothing of a" in text]
    windows = summary["within"]["segment_windows"]
    assert windows["all"] == windows["computed"] and summary["windows"] == without["windows"]


@pytest.mark.parametrize("agree_within_nm", [0.0, 30.0])
def test_results_do_not_depend_on_blocks_or_parts(tmp_path, agree_within_nm):
    given = {"trust": True, "trust_limits": Limits(), "foreignness": True, "disagreement": True, "objects": True}
    given |= {"agree_within_nm": agree_within_nm, "smallest_object_vx": 2}
    every = []
    for i, (block, batch) in enumerate([((1, 8, 12), 1), ((3, 64, 64), 7), ((2, 20, 8), 4)]):
        found, summary = made(tmp_path / str(i), tissue(True), block=block, batch=batch, **given)
        found |= {role: result(tmp_path / str(i), role) for role in ("trust", "tested", "objects_refined")}
        told = {name: summary[name] for name in ("voxels", "hidden_share", "changed", "hidden_tokens", "repairs")}
        every.append(found | {"told": told})
    assert every[0]["tested"].any() and not every[0]["tested"][tissue(True) == 0].any()
    for part in range(2):
        job = image_job(tmp_path / "parts", within=within(tissue(True)))
        done = settings(num_parts=2, part_id=part, block=(2, 20, 8), wait_minutes=0.0, **given)
        if part == 0:
            with pytest.raises(Exception, match="waited 0 minutes"):
                refining.refine_volume(job, segmenter(), refiner(), done, silent)
        else:
            refining.refine_volume(job, segmenter(), refiner(), done._replace(num_parts=1, part_id=0), silent)
    every.append({role: result(tmp_path / "parts", role) for role in every[0] if role != "told"})
    for other in every[1:]:
        for role, array in other.items():
            np.testing.assert_equal(array, every[0][role], role)


def test_nothing_is_read_or_computed_for_blocks_outside(tmp_path, monkeypatch):
    shown, read, real = [], [], blockwise._segmented

    def counted(*given):
        shown.append(len(given[-1]))
        return real(*given)

    counted.lower = real.lower
    monkeypatch.setattr(blockwise, "_segmented", counted)
    volume = array_volume(image(), "image", (30.0, 5.0, 4.0))
    listened = type(volume)(*volume.__dict__.values())
    object.__setattr__(listened, "_read", lambda box: read.append(box) or volume._read(box))
    mask = np.zeros(SHAPE, np.uint8)
    mask[1, :8, :8] = 1
    given = image_job(tmp_path, image=listened, within=within(mask))
    summary = refining.refine_volume(given, segmenter(), None, settings(block=(1, 8, 8), batch=1), silent)
    # Of the lattice of 16 x 16 windows, 8 apart, one shows the corner alone.
    assert shown == [1] and summary["within"]["segment_windows"]["computed"] == 1
    assert {box.start[0] for box in read if box != whole(SHAPE)} == {1}
    assert summary["within"]["blocks"] == {"all": 60, "skipped": 59}


@given(st.integers(0, 2**32 - 1), st.sampled_from([0.001, 0.02, 0.5]))
def test_wanted_voxels_have_all_their_windows(seed, share):
    rng = np.random.default_rng(seed)
    model, box = segmenter(), blockwise.Box((0, 3, 5), (2, 27, 38))
    wanted = rng.random(box.shape) < share
    wanted[tuple(rng.integers(box.shape))] = True
    source = model.apply, (model.params, model.state), None, array_volume(image(), "image"), box, 4, "mean"
    everything, all_windows = blockwise.segment_block(*source)
    found, windows = blockwise.segment_block(*source, wanted)
    np.testing.assert_array_equal(found[wanted], everything[wanted])
    touched = [w for w in blockwise.windows_around(model.apply, SHAPE, box) if wanted[_in_box(w, box)].any()]
    assert windows == len(touched) <= all_windows


def _in_box(window, box):
    return window.intersect(box).within(box).slices


def test_labels_outside_become_background_and_are_counted(tmp_path):
    mask = tissue(True) > 0
    found, summary = made(tmp_path, mask, label_job)
    np.testing.assert_array_equal(found["initial"], labels() * mask)
    told = summary["within"]
    lost = int((labels()[~mask] > 0).sum())
    assert (told["foreground"], told["foreground_outside"]) == ((labels() > 0).sum(), lost)
    assert any(
        f"{lost:,} of" in text and "outside of mask and become background" in text for text in summary["warnings"]
    )
    few = np.ones(SHAPE, np.uint8)
    few[0, 0, :4] = 0
    summary = made(tmp_path / "few", few, label_job)[1]
    assert not any("become background" in text for text in summary["warnings"])
    assert any("4 foreground voxels" in text or "become background" in text for text in summary["notes"])
    with pytest.raises(BadInput, match=r"stopped by --strict, nothing was written: .* outside of mask"):
        made(tmp_path / "strict", mask, label_job, strict=True)
    assert not (tmp_path / "strict").exists()


def test_probabilities_outside_are_background_to_whoever_needs_them(tmp_path):
    mask = tissue() > 0
    drawn = np.random.default_rng(3).dirichlet(np.ones(4), SHAPE).astype(np.float32)
    given = array_volume(np.moveaxis(drawn, -1, 0).copy(), "p")
    job = image_job(tmp_path, image=None, probabilities=(given,), within=within(mask))
    summary = refining.refine_volume(job, None, refiner(("probabilities",)), settings(), silent)
    initial = result(tmp_path, "initial")
    np.testing.assert_array_equal(initial, drawn.argmax(-1) * mask)
    assert summary["within"]["foreground_outside"] == (drawn.argmax(-1)[~mask] > 0).sum()
    run = refining.open_run(job._replace(output=tmp_path / "b"), None, refiner(("probabilities",)), settings(), silent)
    seen = segmenting.probabilities_again(run, segmenting.means_of(run)).read(whole(SHAPE))
    assert (seen[0][~mask] == 1).all() and not seen[1:, ~mask].any()
    np.testing.assert_allclose(seen[:, mask], np.moveaxis(drawn, -1, 0)[:, mask], rtol=1e-6)


def test_a_token_across_the_border_counts_zeros_and_is_hidden_to_the_refiner_as_a_whole(tmp_path):
    """Of two such tokens one has enough entropy inside to be hidden, one has not; outside voxels keep background."""
    entropy, mask = np.zeros(SHAPE, np.float32), np.zeros(SHAPE, np.uint8)
    entropy[1, 8:12, 8:16] = 1.0
    mask[1, :10, :12] = mask[1, :9, 12:16] = 1  # halves and quarters of the two tokens
    seen = []

    def listening(params, state, inputs, key):
        jax.debug.callback(lambda *given: seen.append(given), inputs["labels"], inputs["hidden"])
        return right_in_rows(params, state, inputs, key)

    given = {"entropy": array_volume(entropy, "entropy"), "within": within(mask)}
    summary = refining.refine_volume(label_job(tmp_path, **given), None, refiner(fill=listening), settings(), silent)
    hidden = np.zeros(SHAPE, bool)
    hidden[1, 8:10, 8:12] = True
    np.testing.assert_array_equal(result(tmp_path, "hidden") > 0, hidden)
    assert summary["hidden_tokens"]["entropy"] == 1 and summary["hidden_share"] == hidden.sum() / mask.sum()
    refined = result(tmp_path, "refined")
    assert not refined[mask == 0].any() and (refined == result(tmp_path, "initial"))[~hidden].all()
    assert seen
    for shown, covered in seen:
        tokens = np.asarray(covered).reshape(len(covered), 4, 4, 4, 4)
        assert (tokens.any((2, 4)) == tokens.all((2, 4))).all(), "hidden is constant inside a token"
        assert (np.asarray(shown)[np.asarray(covered)] == -1).all()


def test_what_is_ambiguous_outside_hides_nothing_inside(tmp_path):
    given, mask = labels(), np.zeros(SHAPE, np.uint8)
    given[1, 8:12, 8:12] = SCHEME["ambiguous"]
    mask[1, 8, 8:12] = 1  # a quarter of the token
    given[1, 8, 8:12] = 1
    job = label_job(tmp_path, labels=array_volume(given, "labels"), within=within(mask))
    job = job._replace(entropy=array_volume(np.zeros(SHAPE, np.float32), "entropy"))
    summary = refining.refine_volume(job, None, refiner(), settings(), silent)
    assert summary["hidden_tokens"] == {"entropy": 0, "ambiguous": 0, "both": 0}
    assert not result(tmp_path, "hidden").any()


def test_painted_places_outside_are_not_hidden(tmp_path):
    painted = np.zeros(SHAPE, np.uint8)
    painted[1, 8, 8] = painted[1, 20, 30] = painted[1, 13, 8] = 1
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :14, :20] = 1
    mask[1, 13, 8] = 0
    given = {"entropy": None, "hidden": array_volume(painted, "painted"), "within": within(mask)}
    refining.refine_volume(label_job(tmp_path, **given), None, refiner(), settings(), silent)
    hidden = np.zeros(SHAPE, bool)
    hidden[1, 8:12, 8:12] = True
    np.testing.assert_array_equal(result(tmp_path, "hidden") > 0, hidden)


@pytest.mark.parametrize("block", [(3, 16, 16), (1, 12, 40)])
def test_a_refiner_that_works_everywhere_touches_nothing_outside(tmp_path, block):
    """On whole slices; no slab of blocks is inside from slice 4 to 6, and objects are carried across the border."""
    shape = (9, 29, 38)
    given = (np.random.default_rng(1).random((9, 5, 6)) < 0.6).repeat(7, 1).repeat(7, 2)[:, :29, :38].astype(np.uint8)
    mask = np.zeros(shape, np.uint8)
    mask[:3, :15, :20], mask[7:, 5:, 9:] = 1, 1
    scheme = {"names": ("background", "cell"), "colours": ((0, 0, 0), (250, 220, 60)), "ambiguous": -1}
    known = {"morphology": {"order": "free", "distances": (1, 2)}, "use": {"everywhere": True}, "classes": scheme}
    known |= {"voxel_size_nm": (), "token": 4, "threshold": 0.4, "ambiguous_threshold": 0.5}
    model = methods.unlearned("continuity", known)
    size = (5.0, 50.0, 50.0)
    for name, stack in (("within", given), ("cut", given * mask)):
        job = label_job(tmp_path / name, labels=array_volume(stack, "labels", size), entropy=None)
        job = job._replace(within=array_volume(mask, "mask", size)) if name == "within" else job
        refining.refine_volume(job, None, model, settings(block=block, labelled_slices=("0:9:7",)), silent)
    found, cut = (
        refining.open_result(tmp_path / name, "a", "refined").read(whole(shape)) for name in ("within", "cut")
    )
    np.testing.assert_array_equal(found, np.where(mask > 0, cut, 0))
    assert (cut * (mask == 0)).any(), "objects do not go on across the border"


def test_windows_of_a_network_that_works_everywhere_are_those_that_show_tissue(tmp_path):
    model, mask = refiner(), tissue() > 0
    model = model._replace(apply=model.apply._replace(everywhere=True))
    given = label_job(tmp_path, entropy=None, within=within(mask))
    summary = refining.refine_volume(given, None, model, settings(block=(1, 32, 40)), silent)
    refined = result(tmp_path, "refined")
    assert (refined != labels())[mask].any() and not refined[~mask].any()
    windows = [w for z in range(2) for w in blockwise.windows_around(model.apply, SHAPE, whole((1, *SHAPE[1:])))]
    expected = sum(mask[0][window.slices[1:]].any() for window in windows)
    assert summary["windows"]["computed"] == expected < summary["windows"]["refine"]


def test_the_refiner_is_tried_inside_only(tmp_path, monkeypatch):
    """Outside are labels that it gets wrong, which would be held against it."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[:, :18] = 1  # across tokens
    entropy = np.zeros(SHAPE, np.float32)
    entropy[:, 4:8, 8:16] = entropy[:, 20:24, 8:16] = 1.0
    given = np.where(mask > 0, rows(), labels())
    job = label_job(tmp_path, labels=array_volume(given, "labels"), entropy=array_volume(entropy, "entropy"))
    model = refiner(fill=right_in_rows)
    seen, real = [], asking.asked_back

    def counted(*arguments):
        found = real(*arguments)
        box = arguments[-2]
        seen.append((box, int(found[0][mask[box.slices] > 0].sum())))  # before it is cut
        return found

    monkeypatch.setattr(asking, "asked_back", counted)
    plain = refining.refine_volume(job._replace(output=tmp_path / "plain"), None, model, settings(ask=64), silent)
    everywhere, seen[:] = len(seen), []
    found = refining.refine_volume(job._replace(within=within(mask)), None, model, settings(ask=64), silent)
    assert plain["asked"]["right"]["refiner"] < 0.75 < found["asked"]["right"]["refiner"]
    assert 0 < len(seen) <= everywhere and all(mask[box.slices].any() for box, _ in seen)
    assert found["asked"]["voxels"] == sum(count for _, count in seen)


def test_another_mask_is_another_result_and_none_is_refused(tmp_path):
    np.save(tmp_path / "mask.npy", tissue())
    made(tmp_path / "out", tissue())
    with pytest.raises(BadInput, match=r"was made otherwise: inputs.within"):
        made(tmp_path / "out", tissue(True))
    with pytest.raises(BadInput, match=r"was made otherwise: inputs.within"):
        made(tmp_path / "out")
    again = made(tmp_path / "out", tissue())[1]
    assert again == json.loads((tmp_path / "out" / "a.json").read_text())


def test_an_interrupted_run_continues_within_the_mask(tmp_path, monkeypatch):
    whole_run, summary = made(tmp_path / "whole", tissue(True), block=BLOCK)
    real, calls = passes.refine_block, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(passes, "refine_block", interrupted)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path / "out", tissue(True), block=BLOCK)
    found, again = made(tmp_path / "out", tissue(True), block=BLOCK)
    for role, array in whole_run.items():
        np.testing.assert_array_equal(found[role], array, role)
    assert again["within"] == summary["within"]


@pytest.mark.parametrize("dtype", [bool, np.float32, np.int64])
@pytest.mark.parametrize(("outside", "inside"), [(0, 1), (0, 255), (1, 2)])
def test_masks_are_read_as_painted_ones_are(tmp_path, dtype, outside, inside):
    if dtype is bool and (outside, inside) != (0, 1):
        return
    mask = np.where(tissue() > 0, inside, outside).astype(dtype)
    job = label_job(tmp_path, within=within(mask))
    refining.refine_volume(job, None, None, settings(classes=("a", "b", "c", "d")), silent)
    np.testing.assert_array_equal(result(tmp_path, "initial"), labels() * (tissue() > 0))


def test_a_coarser_mask_says_of_every_voxel_what_lies_at_its_centre(tmp_path):
    coarse = np.zeros((2, 8, 5), np.uint8)  # of 45 x 20 x 32 nm: of 1.5 slices, 4 rows, 8 columns
    coarse[0, 1:3, :2] = coarse[1, 5, 3] = 255
    z, y, x = np.ogrid[:3, :29, :38]
    expected = coarse[np.array([0, 1, 1])[z], y // 4, x // 8] > 0  # the slice in the middle lies 45 nm deep
    job = image_job(tmp_path, within=array_volume(coarse, "mask", (45.0, 20.0, 32.0)))
    summary = refining.refine_volume(job, segmenter(), refiner(), settings(block=BLOCK), silent)
    plain = made(tmp_path / "plain")[0]
    np.testing.assert_array_equal(result(tmp_path, "initial"), plain["initial"] * expected)
    assert summary["within"]["mask_shape"] == [2, 8, 5] and summary["voxels"] == expected.sum()
    assert not any("coarse" in text for text in summary["warnings"])
    inputs = summary["made_by"]["inputs"]["within"]
    assert inputs["voxel_size_nm"] == [45.0, 20.0, 32.0], "the file itself is the input"
    one = job._replace(within=array_volume(np.ones((1, 1, 1), np.uint8), "mask", (90.0, 145.0, 152.0)))
    summary = refining.refine_volume(one._replace(output=tmp_path / "one"), segmenter(), None, settings(), silent)
    assert any("mask is 38 times as coarse as a" in text for text in summary["warnings"])


def test_masks_of_another_extent_or_unknown_size_are_refused(tmp_path):
    for size, shape in (((30.0, 10.0, 8.0), (3, 15, 12)), ((30.0, 10.0, 8.0), SHAPE)):
        job = image_job(tmp_path, within=array_volume(np.ones(shape, np.uint8), "mask", size))
        with pytest.raises(BadInput, match=r"^a: mask has shape .* both must show the same place$"):
            refining.refine_volume(job, segmenter(), None, settings(), silent)
    job = label_job(tmp_path, within=array_volume(np.ones((3, 15, 19), np.uint8), "mask", (30.0, 10.0, 8.0)))
    with pytest.raises(BadInput, match=r"that of a is not known; give it: --voxel_size_nm Z,Y,X"):
        refining.refine_volume(job, None, None, settings(classes=("a", "b", "c", "d")), silent)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("mask", "why"),
    [
        (np.zeros(SHAPE, np.uint8), "mask excludes every voxel of a: nothing is inside"),
        (
            np.full(SHAPE, 0.5, np.float32),
            r"mask \(float32\) holds 0.5; labels are whole numbers \(a mask with soft edges",
        ),
        (
            np.where(tissue() > 0, 3, 1).astype(np.uint8),
            "expected 0 for what is outside and another number for what is",
        ),
        (np.where(tissue() > 0, 1, -3).astype(np.int8), "holds the labels"),
        (np.ones((3, 29, 37), np.uint8), r"mask has shape \(3, 29, 37\), but a has \(3, 29, 38\): .* its own is"),
    ],
)
def test_masks_that_cannot_be_used_are_refused_in_one_line(tmp_path, mask, why):
    with pytest.raises(BadInput, match=why) as found:
        made(tmp_path / "out", mask)
    assert "\n" not in str(found.value) and not (tmp_path / "out").exists()
