"""Tissue masks as outputs: killed and resumed, damaged and repaired, refused where they were made otherwise."""

import numpy as np
import pytest
from resin import tissue_in_resin
from scipy import ndimage

from maeref_jax.commands.load_models import by_name
from maeref_jax.errors import BadInput, CannotGoOn
from maeref_jax.masking.cleaning import Cleaning, cleaned
from maeref_jax.pipeline import cleaning as blocks_of_cleaning
from maeref_jax.pipeline import tissue
from maeref_jax.results import marks, output, repairing, verifying
from maeref_jax.volumes.volume import array_volume, open_volume
from maeref_jax.volumes.windows import whole

SHAPE, SIZE = (6, 60, 70), (20.0, 20.0, 20.0)
HOW = Cleaning(close_nm=40.0, fill_holes="2d", open_nm=40.0, smallest_vx=50, grow_nm=20.0)


def image(seed=0):
    return tissue_in_resin(SHAPE, 16, seed)[0].astype(np.float32)


def painted(seed=0):
    return (ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=SHAPE), 2) > 0.02).astype(np.uint8)


def asked(directory, mask=True, **changes):
    volume = array_volume(painted() if mask else image(), "painted" if mask else "image", SIZE)
    given = {"volume": volume, "segmenter": None if mask else by_name("texture", kind="segmenter"), "cleaning": HOW}
    return tissue.Asked("a", directory, **(given | changes))


def silent(line):
    pass


def stored(directory, inner=""):
    volume = open_volume(directory / "a_tissue.ome.zarr" / inner)
    return volume.read(whole(volume.shape)), volume


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(blocks_of_cleaning, "block_of", lambda shape: (4, 24, 24))


def test_a_mask_is_cleaned_as_the_whole_array_is_and_says_how_much_is_tissue(tmp_path, small_blocks):
    summary = tissue.make(asked(tmp_path), silent)
    found, volume = stored(tmp_path)
    np.testing.assert_array_equal(found, cleaned(painted() != 0, HOW, SIZE))
    np.testing.assert_array_equal(stored(tmp_path, "labels/found")[0], painted())
    assert volume.voxel_size_nm == SIZE and volume.dtype == np.uint8
    assert summary["tissue_share"] == found.mean() and summary["found_share"] == painted().mean()
    assert summary["cleaning"] == HOW._asdict() and summary["warnings"] == []
    assert tissue.make(asked(tmp_path), silent) == summary, "again: nothing to do"
    assert verifying.verify(tissue.place_of(tmp_path, "a")).state == verifying.WHOLE


def test_an_image_is_segmented_first(tmp_path, small_blocks):
    summary = tissue.make(asked(tmp_path, mask=False), silent)
    assert summary["statistics"]["kind"] == "two" and summary["made_by"]["segmenter"]["method"] == "texture"
    assert 0.1 < summary["tissue_share"] < 0.5
    np.testing.assert_array_equal(stored(tmp_path)[0], cleaned(stored(tmp_path, "labels/found")[0] != 0, HOW, SIZE))


@pytest.mark.parametrize("step", ["segment", "clean"])
def test_killed_in_either_pass_it_goes_on_and_ends_in_the_same_bytes(tmp_path, small_blocks, monkeypatch, step):
    once = tissue.make(asked(tmp_path / "once", mask=False), silent)
    mark, marked = marks.mark, []

    def mark_or_stop(place, name, box, *told):
        marked.append(name)
        if marked.count(step) == 3:
            raise OSError("no space left")
        mark(place, name, box, *told)

    monkeypatch.setattr(marks, "mark", mark_or_stop)
    with pytest.raises(OSError, match="no space"):
        tissue.make(asked(tmp_path / "killed", mask=False), silent)
    monkeypatch.setattr(marks, "mark", mark)
    assert verifying.verify(tissue.place_of(tmp_path / "killed", "a")).state == verifying.UNFINISHED
    again = tissue.make(asked(tmp_path / "killed", mask=False), silent)
    assert again["arrays"] == once["arrays"] and again["tissue_share"] == once["tissue_share"]
    place = tissue.place_of(tmp_path / "killed", "a")
    assert verifying.verify(place).state == verifying.WHOLE
    assert not (place.progress / "scratch").exists()


@pytest.mark.parametrize("role", ["tissue", "found"])
def test_a_damaged_block_is_found_and_made_again(tmp_path, small_blocks, role):
    once = tissue.make(asked(tmp_path), silent)
    place, inner = tissue.place_of(tmp_path, "a"), {"tissue": "", "found": "labels/found"}[role]
    chunk = place.folder / inner / "0" / "c" / "0" / "1" / "1"
    chunk.write_bytes(chunk.read_bytes()[:-3])
    verdict = verifying.verify(place)
    assert verdict.state == verifying.DAMAGED
    assert [part.of for part in verdict.parts if part.damage] == [role]
    repairing.repair(verdict)
    assert tissue.make(asked(tmp_path), silent)["arrays"] == once["arrays"]
    assert verifying.verify(place).state == verifying.WHOLE


def test_another_clean_up_or_input_is_another_output(tmp_path):
    tissue.make(asked(tmp_path), silent)
    with pytest.raises(BadInput, match="open_nm"):
        tissue.make(asked(tmp_path, cleaning=HOW._replace(open_nm=60.0)), silent)
    with pytest.raises(BadInput, match="was made otherwise"):
        tissue.make(asked(tmp_path, volume=array_volume(painted(1), "painted", SIZE)), silent)
    summary = tissue.make(asked(tmp_path, cleaning=Cleaning(), overwrite=True), silent)
    assert summary["tissue_share"] == painted().mean()


def test_what_is_not_ours_is_not_replaced(tmp_path):
    (tmp_path / "a_tissue.json").write_text("mine")
    with pytest.raises(BadInput, match=r"a_tissue\.json"):
        tissue.make(asked(tmp_path), silent)
    assert (tmp_path / "a_tissue.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("given", "how", "expected"),
    [
        (np.zeros(SHAPE), HOW, "nothing was taken as tissue"),
        (np.eye(60, 70) * np.ones((6, 1, 1)), Cleaning(open_nm=100.0), "the clean-up removed all of it"),
        (1 - (np.indices(SHAPE).sum(0) == 60), Cleaning(close_nm=100.0), "the clean-up made all of it tissue"),
    ],
)
def test_masks_that_come_out_empty_or_full_are_doubted(tmp_path, given, how, expected):
    told = []
    changed = {"volume": array_volume(given.astype(np.uint8), "painted", SIZE), "cleaning": how}
    summary = tissue.make(asked(tmp_path, **changed), told.append)
    assert expected in summary["warnings"][0] and any(expected in line for line in told)
    with pytest.raises(BadInput, match="stopped by --strict"):
        tissue.make(asked(tmp_path / "strict", strict=True, **changed), silent)
    assert not (tmp_path / "strict" / "a_tissue.json").exists()


def test_a_second_process_leaves_the_clean_up_to_the_first(tmp_path, small_blocks, monkeypatch):
    clean_up, refused = blocks_of_cleaning.cleaned, []

    def meanwhile(*given):
        found = clean_up(*given)
        monkeypatch.setattr(blocks_of_cleaning, "cleaned", clean_up)
        with pytest.raises(CannotGoOn, match="another process cleans it up") as error:
            tissue.make(asked(tmp_path), silent)
        refused.append(error)
        return found

    monkeypatch.setattr(blocks_of_cleaning, "cleaned", meanwhile)
    tissue.make(asked(tmp_path), silent)
    assert refused
    np.testing.assert_array_equal(stored(tmp_path)[0], cleaned(painted() != 0, HOW, SIZE))


def test_refined_volumes_in_the_same_folder_are_not_taken_for_masks_nor_masks_for_them(tmp_path):
    from maeref_jax.report import tissue as page

    tissue.make(asked(tmp_path), silent)
    assert output.sidecars(tmp_path) == {}
    assert list(page.summaries(tmp_path)) == ["a_tissue"]


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((100, 384, 512), (10.0, 10.0, 10.0), (10, 10, 10)),  # small already
        ((500, 4096, 4096), (8.0, 4.0, 4.0), (32, 32, 32)),
        ((50, 5000, 5000), (50.0, 5.0, 5.0), (50, 45, 45)),
        ((10, 1, 1), (5.0, 5.0, 5.0), (5, 5, 5)),
        ((3000, 4096, 40960), (4.0, 4.0, 4.0), None),
        ((10**5, 10**5, 10**5), (8.0, 8.0, 8.0), None),
    ],
)
def test_coarse_voxels_are_whole_multiples_near_to_cubes_and_few(shape, size, expected):
    found = tissue.coarse_size(shape, size)
    assert expected in (None, found)
    assert all(length % own == 0 for length, own in zip(found, size, strict=True))
    voxels = np.prod([-(-n * s // f) for n, s, f in zip(shape, size, found, strict=True)])
    assert voxels <= tissue.MOST and (expected or voxels > tissue.MOST / 3)


def test_usual_lengths_are_three_voxels_and_none_where_no_size_is_known():
    given = {"close_nm": None, "fill_holes": "2d", "open_nm": 7.0, "keep": "all", "smallest_vx": 9, "grow_nm": None}
    assert tissue.usual(given, (40.0, 20.0, 10.0)) == Cleaning(60.0, "2d", 7.0, "all", 9, 60.0)
    assert tissue.usual(given | {"open_nm": None}, None) == Cleaning(0.0, "2d", 0.0, "all", 9, 0.0)
