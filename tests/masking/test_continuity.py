"""The morphology along z against the published rules written out voxel by voxel, and what a user relies on."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maeref_jax.errors import BadInput
from maeref_jax.masking import continuity

SMALL = continuity.Rules(smallest_px=3, carried_px=4, shrink_px=1.0, reach=3)


def neighbours(y, x, plane):
    found = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
    return [(b, a) for b, a in found if 0 <= b < len(plane) and 0 <= a < len(plane[0])]


def pieces_removed(plane, smallest):
    """A plane (lists of bool) without pieces of fewer pixels."""
    result, seen = [row[:] for row in plane], set()
    for y, row in enumerate(plane):
        for x, value in enumerate(row):
            if not value or (y, x) in seen:
                continue
            piece, todo = {(y, x)}, [(y, x)]
            while todo:
                for at in neighbours(*todo.pop(), plane):
                    if plane[at[0]][at[1]] and at not in piece:
                        piece.add(at)
                        todo.append(at)
            seen |= piece
            for b, a in piece if len(piece) < smallest else ():
                result[b][a] = False
    return result


def eroded(plane):
    return [
        [value and all(plane[b][a] for b, a in neighbours(y, x, plane)) for x, value in enumerate(row)]
        for y, row in enumerate(plane)
    ]


def voxelwise(function, *planes):
    return [[function(*values) for values in zip(*rows, strict=True)] for rows in zip(*planes, strict=True)]


def reference(labels, labelled, classes, rules):
    """The published steps on whole stacks, one after the other; twice carried, as published."""
    depth, masks_of_classes = len(labels), []
    unknown = [[[not 0 <= v < classes for v in row] for row in plane] for plane in labels]
    for c in range(1, classes):
        truth = {z: [[v == c for v in row] for row in labels[z]] for z in labelled}
        p = [[[v == c for v in row] for row in plane] for plane in labels]
        p = [truth.get(z) or pieces_removed(plane, rules.smallest_px) for z, plane in enumerate(p)]
        for _ in range(2):
            for order in (range(depth), reversed(range(depth))):
                carried, away, done = None, 0, 0
                for z in order:
                    if z in truth:
                        carried, away, done = truth[z], 0, 0
                        continue
                    if carried is None:
                        continue
                    away += 1
                    wanted = int(away * rules.shrink_px + 0.5)
                    for _ in range(wanted - done):
                        carried = eroded(carried)
                    carried, done = pieces_removed(carried, rules.carried_px), wanted
                    if away <= rules.reach:
                        p[z] = voxelwise(lambda a, b: a or b, p[z], carried)

        def removed(here, one, other, u, v):
            return here and (one or other or u or v)

        def added(here, one, other, u, v):
            return here or (one and other)

        for z in range(depth):
            below, above = [a for a in labelled if a < z], [b for b in labelled if b > z]
            if z in truth or not below or not above or min(above) - max(below) > rules.reach:
                continue
            a, b = max(below), min(above)
            for rule in (removed, added):
                p[z] = voxelwise(rule, p[z], truth[a], truth[b], unknown[a], unknown[b])
                p[z] = pieces_removed(p[z], rules.smallest_px)
        for d in rules.distances:
            for rule in (removed, added):
                before = list(p)
                for z in range(d, depth - d):
                    if z not in truth:
                        one = p[z - d] if rules.order == "original" else before[z - d]
                        found = voxelwise(rule, before[z], one, before[z + d], unknown[z - d], unknown[z + d])
                        p[z] = pieces_removed(found, rules.smallest_px)
        masks_of_classes.append(p)
    result = []
    for z, plane in enumerate(labels):
        result.append([])
        for y, row in enumerate(plane):
            result[-1].append([])
            for x, value in enumerate(row):
                found = [c + 1 for c, p in enumerate(masks_of_classes) if p[z][y][x]]
                value = -1 if unknown[z][y][x] else value
                if z not in labelled:
                    value = value if value in found else found[0] if found else min(value, 0)
                result[-1][-1].append(value)
    return np.array(result)


@st.composite
def stacks(draw):
    """Columns of large pieces, whose classes change often along z."""
    depth, classes, sides = draw(st.integers(1, 12)), draw(st.integers(2, 3)), st.tuples(*[st.integers(1, 3)] * 2)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shares = rng.dirichlet((0.3, 1, 2, 2)[: classes + 1])
    coarse = rng.choice(np.arange(-1, classes), (depth, *draw(sides)), p=shares).astype(np.int16)
    y, x = draw(sides)
    labels = coarse.repeat(y, 1).repeat(x, 2)
    labels[rng.random(labels.shape) < 0.03] = classes  # no class: unknown
    labelled = draw(st.lists(st.integers(0, depth - 1), max_size=4))
    changed = {"order": st.sampled_from(continuity.ORDERS), "shrink_px": st.sampled_from([0, 0.5, 1.5])}
    changed |= {"distances": st.sampled_from([(1, 2), (1,), (3,), ()]), "smallest_px": st.sampled_from([1, 3, 6])}
    return labels, labelled, classes, SMALL._replace(**{name: draw(values) for name, values in changed.items()})


@settings(max_examples=300, deadline=None, derandomize=True)
@given(stacks())
def test_it_is_the_published_rules_on_any_stack_labels_and_classes(stack):
    labels, labelled, classes, rules = stack
    found = continuity.continued(labels, labelled, classes, rules)
    np.testing.assert_array_equal(found, reference(labels.tolist(), labelled, classes, rules))
    for z in labelled:
        np.testing.assert_array_equal(found[z], np.where((labels[z] >= 0) & (labels[z] < classes), labels[z], -1))


@pytest.mark.parametrize("order", continuity.ORDERS)
def test_small_objects_are_where_the_orders_differ_and_a_stream_hears_of_as_much_as_there_is_to_hear(order):
    """Without their removal both orders are the same: whom a voxel took its support from, it supports itself."""
    differ = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        labels = (rng.random((15, 3, 3)) < rng.uniform(0.2, 0.8)).astype(np.int16)
        rules = continuity.Rules(rng.integers(2, 6), 4, 1, 3, order=order)
        whole = continuity.continued(labels, [], 2, rules)
        stream = continuity.continued_slices(labels.__getitem__, len(labels), [], 2, rules, 8)
        np.testing.assert_array_equal(list(stream), whole[8:])
        if seed < 60:
            np.testing.assert_array_equal(whole, reference(labels.tolist(), [], 2, rules))
        differ += (whole != continuity.continued(labels, [], 2, rules._replace(order="free"))).any()
        one, other = (
            continuity.continued(labels, [], 2, rules._replace(smallest_px=1, order=o)) for o in continuity.ORDERS
        )
        np.testing.assert_array_equal(one, other)
    assert (differ > 20) == (order == "original")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(stacks(), st.integers(0, 11))
def test_a_stream_that_begins_anywhere_gives_the_same_slices(stack, start):
    labels, labelled, classes, rules = stack
    start = min(start, len(labels) - 1)
    whole = continuity.continued(labels, labelled, classes, rules)
    rest = list(continuity.continued_slices(labels.__getitem__, len(labels), labelled, classes, rules, start))
    np.testing.assert_array_equal(rest, whole[start:])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(stacks())
def test_free_order_knows_no_direction(stack):
    labels, labelled, classes, rules = stack
    rules = rules._replace(order="free")
    found = continuity.continued(labels, labelled, classes, rules)
    turned = continuity.continued(labels[::-1], [len(labels) - 1 - z for z in labelled], classes, rules)
    np.testing.assert_array_equal(turned[::-1], found)


def column(depth=30, side=40):
    labels = np.zeros((depth, side, side), np.int16)
    labels[:, 8:30, 8:30] = 1
    return labels


def test_few_slices_are_held_at_a_time():
    asked, labels = [], column(60)

    def read(z):
        asked.append(z)
        return labels[z]

    rules = continuity.rules_of((5, 5, 5))
    stream = continuity.continued_slices(read, 60, [0, 50], 2, rules, 20)
    next(stream)
    assert set(asked) <= set(range(14, 27)), "those within the halo; the labelled ones are out of reach"
    list(stream)
    assert {0, 13}.isdisjoint(asked) and max(map(asked.count, asked)) <= 2


@pytest.mark.parametrize("order", continuity.ORDERS)
def test_dropped_and_speckled_slices_are_repaired_to_the_last_slice_of_any_stack(order):
    truth, broken = column(37), column(37)
    broken[[5, 20, 34]] = 0
    broken[12, 2:5, 2:5] = broken[28, 34:39, 3:30] = 1
    broken[17, 14:20, 14:20] = 0
    rules = continuity.rules_of((5, 5, 5), order=order)
    np.testing.assert_array_equal(continuity.continued(broken, [], 2, rules), truth)


def test_an_unknown_slice_is_filled_where_both_neighbours_agree_and_else_stays_unknown():
    labels = column(9)
    labels[4] = -1
    found = continuity.continued(labels, [], 2, continuity.rules_of((5, 5, 5)))
    np.testing.assert_array_equal(found[4], np.where(column(9)[4] == 1, 1, -1))
    np.testing.assert_array_equal(np.delete(found, 4, 0), np.delete(column(9), 4, 0))


def test_where_two_classes_meet_the_more_probable_wins_and_else_the_one_that_was_there():
    labels = np.zeros((3, 20, 20), np.int16)
    labels[[0, 2]], labels[1] = 1, 2  # both neighbours say 1
    labels[:, :, 10:] = 0
    kept = continuity.Rules(1, 1, 1, 1, distances=(1,))._replace(distances=())
    np.testing.assert_array_equal(continuity.continued(labels, [], 3, kept), labels)
    rules = continuity.Rules(1, 1, 0, 1, distances=())  # what is carried does not shrink
    probabilities = np.zeros((3, 20, 20, 3))
    probabilities[..., 1] = np.linspace(0, 1, 20)[:, None]
    probabilities[..., 2] = 1 - probabilities[..., 1]
    assert (continuity.continued(labels, [0], 3, rules)[1] == labels[1]).all()
    found = continuity.continued(labels, [0], 3, rules, probabilities)[1]
    assert (found[:10, :10] == 2).all() and (found[10:, :10] == 1).all() and (found[:, 10:] == 0).all()


def test_lengths_follow_the_voxels_and_not_the_pixels():
    published = continuity.rules_of()
    assert published == continuity.rules_of((5, 5, 5)) and published[:3] == (300, 450, 3)
    thick = continuity.rules_of((50, 5, 5))
    assert thick.shrink_px == 30 and thick.reach == 1, "ten slices' worth of shrinking with every slice"
    coarse = continuity.rules_of((5, 10, 10))
    assert coarse[:3] == (75, 112.5, 1.5)


def test_an_anisotropic_stack_is_repaired_as_the_same_tissue_in_finer_slices_is():
    """Every fifth slice of a stack with slices five times as thick: what is carried is as large at the same depth."""
    labels = np.zeros((21, 80, 80), np.int16)
    labels[0, 10:70, 10:70] = 1
    fine = continuity.rules_of((5, 5, 5), distances=())
    thick = continuity.rules_of((25, 5, 5), distances=())
    found = continuity.continued(labels, [0], 2, fine)
    coarse = continuity.continued(labels[::5], [0], 2, thick)
    areas = found.sum((1, 2))
    assert areas[5] == 30**2 and areas[10] == 0
    np.testing.assert_array_equal(coarse[:3].sum((1, 2)), areas[:11:5])


def test_bad_input_is_one_clear_line():
    labels = column(5)
    with pytest.raises(BadInput, match="slice 5 is said to be labelled, but there are the slices 0 to 4"):
        continuity.continued(labels, [0, 5], 2, continuity.rules_of())
    with pytest.raises(BadInput, match="order is 'jacobi', expected original or free"):
        continuity.rules_of(order="jacobi")
    with pytest.raises(BadInput, match="distances are numbers of slices, 1 or more"):
        continuity.rules_of(distances=(0,))
    with pytest.raises(BadInput, match="smallest_nm2 must be a number from 0 on, found -1"):
        continuity.rules_of(smallest_nm2=-1)
