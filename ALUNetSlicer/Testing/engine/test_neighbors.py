"""Proposals that are interpolated from drawn slices."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.proposals.neighbors import Neighbors

SPACING = (3.0, 1.0, 1.0)
SIDE = 24


def disc(row, column, radius, side=SIDE):
    rows, columns = np.ogrid[:side, :side]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


@st.composite
def slices(draw, structures=3):
    """A slice with some discs, those that come later on top."""
    labels = np.zeros((SIDE, SIDE), np.uint8)
    for _ in range(draw(st.integers(0, 4))):
        row, column = draw(st.integers(0, SIDE - 1)), draw(st.integers(0, SIDE - 1))
        radius = draw(st.floats(0.5, 8))
        labels[disc(row, column, radius)] = draw(st.integers(1, structures))
    return labels


@st.composite
def stacks(draw):
    """Some drawn slices of a case."""
    numbers = draw(st.lists(st.integers(0, 14), min_size=2, max_size=4, unique=True))
    return {number: draw(slices()) for number in numbers}


def every(drawn):
    source = Neighbors(drawn, SPACING, 16)
    return np.stack([source.at(number) for number in range(16)])


few = settings(max_examples=60, deadline=None)


@few
@given(stacks())
def test_drawn_slices_come_back_and_nothing_else_is_made_up(drawn):
    found = every(drawn)
    for number, labels in drawn.items():
        assert np.array_equal(found[number], labels)
    between = found[min(drawn) : max(drawn) + 1]
    assert set(np.unique(between)) <= set(np.unique(np.stack(list(drawn.values())))) | {0}
    numbers = sorted(drawn)
    for first, last in zip(numbers[:-1], numbers[1:], strict=True):
        held = set(np.unique(drawn[first])) | set(np.unique(drawn[last])) | {0}
        assert set(np.unique(found[first : last + 1])) <= held


@given(st.integers(1, 14))
def test_between_empty_slices_nothing_is_proposed(number):
    empty = np.zeros((SIDE, SIDE), np.uint8)
    assert not Neighbors({0: empty, 15: empty}, SPACING, 16).at(number).any()


@few
@given(slices(), slices(), slices(), slices(), st.integers(1, 3))
def test_a_structure_that_is_the_same_on_both_sides_stays(before, one, other, behind, structure):
    mask = one == structure
    other = np.where(other == structure, 0, other).astype(np.uint8)
    other[mask] = structure
    found = Neighbors({0: before, 4: one, 8: other, 12: behind}, SPACING, 16)
    for number in (5, 6, 7):
        assert (found.at(number)[mask] == structure).all()


@few
@given(stacks(), st.permutations([1, 2, 3]))
def test_the_numbers_of_the_structures_do_not_matter(drawn, order):
    table = np.array([0, *order], np.uint8)
    renamed = {number: table[labels] for number, labels in drawn.items()}
    assert np.array_equal(table[every(drawn)], every(renamed))


@few
@given(stacks(), st.sampled_from([0, 1]))
def test_a_mirrored_case_has_mirrored_proposals(drawn, axis):
    mirrored = {number: np.flip(labels, axis) for number, labels in drawn.items()}
    assert np.array_equal(np.flip(every(drawn), axis + 1), every(mirrored))


@few
@given(stacks())
def test_the_direction_of_the_slices_does_not_matter(drawn):
    mirrored = {15 - number: labels for number, labels in drawn.items()}
    assert np.array_equal(every(drawn)[::-1], every(mirrored))


@few
@given(stacks(), slices(), st.integers(0, 14))
def test_after_a_slice_was_drawn_the_rest_follows(drawn, labels, number):
    source = Neighbors(drawn, SPACING, 16)
    before = np.stack([source.at(place) for place in range(16)])
    changed = source.draw(number, labels)
    now = np.stack([source.at(place) for place in range(16)])
    assert np.array_equal(now, every({**drawn, number: labels}))
    same = (before == now).all(axis=(1, 2))
    assert all(place in changed for place in range(16) if not same[place])


def test_a_shape_that_moves_farther_than_it_is_wide_is_found_halfway():
    drawn = {
        number: np.where(disc(12, column, 3), np.uint8(1), np.uint8(0))
        for number, column in ((0, 4), (4, 19))
    }
    middle = Neighbors(drawn, SPACING, 16).at(2)
    truth = disc(12, 11.5, 3)
    assert 2 * (truth & (middle == 1)).sum() / (truth.sum() + middle.sum()) > 0.8


def test_the_middle_of_a_ball_is_larger_than_both_ends():
    """One that is sheared, so that its slices lie beside each other."""
    radius = 10
    drawn = {
        number: np.where(
            disc(20, number + 8, np.sqrt(max(radius**2 - (number - 10) ** 2, 0)), 40),
            np.uint8(1),
            np.uint8(0),
        )
        for number in (2, 6, 15, 18)
    }
    middle = Neighbors(drawn, (1.0, 1.0, 1.0), 24).at(10)
    assert middle.sum() > 1.05 * max(drawn[6].sum(), drawn[15].sum())
    assert middle.sum() == pytest.approx(np.pi * radius**2, rel=0.1)


def test_a_ring_stays_around_what_it_encloses():
    def heart(radius, column):
        labels = np.zeros((SIDE, SIDE), np.uint8)
        labels[disc(12, column, radius + 3)] = 2
        labels[disc(12, column, radius)] = 3
        return labels

    found = Neighbors({0: heart(3, 9), 4: heart(5, 13)}, SPACING, 16).at(2)
    assert {found[12, 11], found[9, 11], found[15, 11]} == {3}
    assert found[12, 11 + 6] == found[12 - 6, 11] == 2


def test_a_structure_ends_halfway_to_an_empty_slice():
    one = np.where(disc(12, 12, 5), np.uint8(1), np.uint8(0))
    found = Neighbors({0: one, 8: np.zeros_like(one)}, SPACING, 16)
    assert [bool(found.at(number).any()) for number in range(9)] == [True] * 4 + [False] * 5


def test_one_that_splits_becomes_two():
    whole = np.where(disc(12, 8, 4) | disc(12, 12, 4) | disc(12, 16, 4), np.uint8(1), np.uint8(0))
    two = np.where(disc(12, 6, 3) | disc(12, 18, 3), np.uint8(1), np.uint8(0))
    found = Neighbors({0: whole, 4: two}, SPACING, 16)
    assert [(found.at(k)[12, 6:19] == 1).any() for k in range(5)] == [True] * 5


def test_beyond_the_last_drawn_slice_a_structure_shrinks_and_ends():
    one = np.where(disc(12, 12, 8), np.uint8(1), np.uint8(0))
    found = Neighbors({0: one, 4: one}, SPACING, 16)
    areas = [int(found.at(number).sum()) for number in range(4, 9)]
    assert areas == sorted(areas, reverse=True) and areas[0] > areas[1] > areas[3] > 0 == areas[4]
    alone = Neighbors({4: one}, SPACING, 16)
    assert alone.at(3).any() and not alone.at(0).any()


def test_distances_are_in_millimeters():
    """A pixel that is long makes a shape round, whose half would be flat in pixels."""
    rows, columns = np.ogrid[:SIDE, :SIDE]
    large = (((rows - 12) * 2) ** 2 + (columns - 12) ** 2 <= 100).astype(np.uint8)
    small = (((rows - 12) * 2) ** 2 + (columns - 12) ** 2 <= 16).astype(np.uint8)
    middle = Neighbors({0: large, 2: small}, (1.0, 2.0, 1.0), 3).at(1)
    height, width = (np.flatnonzero(middle.any(axis=axis)) for axis in (1, 0))
    assert len(height) * 2 == pytest.approx(len(width), abs=2)


def test_what_cannot_be_used_is_said():
    with pytest.raises(InputError, match="No slice of the case is drawn"):
        Neighbors({}, SPACING, 16).at(3)
    with pytest.raises(InputError, match="Drawn slices have the shapes"):
        Neighbors({0: np.zeros((2, 3), np.uint8), 1: np.zeros((3, 3), np.uint8)}, SPACING, 16)
    with pytest.raises(InputError, match="A slice has the shape"):
        Neighbors({0: np.zeros((2, 3), np.uint8)}, SPACING, 16).draw(4, np.zeros((3, 3), np.uint8))
