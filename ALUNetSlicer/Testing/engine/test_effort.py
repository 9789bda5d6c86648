"""The effort from a proposal to the final labels, against its definitions pixel by pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from alunet.proposals.effort import Effort, TimeModel, effort_of, total_of

labels = arrays(np.uint8, (7, 8), elements=st.integers(0, 2))


def border(mask):
    """Pixels with a neighbor across an edge outside the mask, or outside the slice."""
    found = []
    for row, column in np.argwhere(mask):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            y, x = row + down, column + right
            if not (0 <= y < mask.shape[0] and 0 <= x < mask.shape[1]) or not mask[y, x]:
                found.append((row, column))
                break
    return found


def path(final, proposal, tolerance):
    """Border pixels of `final` without one of `proposal` within a chessboard distance."""
    others = border(proposal)
    return sum(
        not any(max(abs(y - row), abs(x - column)) <= tolerance for y, x in others)
        for row, column in border(final)
    )


@settings(max_examples=80, deadline=None)
@given(labels, labels)
def test_every_figure_is_what_its_definition_says(proposal, final):
    found = effort_of(proposal, final, (2.0, 1.0))
    for number in (1, 2):
        one, other = proposal == number, final == number
        own = found.structures.get(number)
        if own is None:
            assert not one.any() and not other.any()
            continue
        assert own.added_0 == path(other, one, 0) and own.added_1 == path(other, one, 1)
        assert own.removed_0 == path(one, other, 0) and own.removed_1 == path(one, other, 1)
        assert own.added_1_mm == 1.5 * own.added_1 and own.removed_1_mm == 1.5 * own.removed_1
        assert own.border == len(border(other))
    assert found.voxels == sum(
        int(a != b) for a, b in zip(proposal.ravel(), final.ravel(), strict=True)
    )
    total = found.total
    assert total.added_1 == sum(own.added_1 for own in found.structures.values())
    assert found.accepted == (total.added_1 == 0 == total.removed_1)


@given(labels, labels)
@settings(max_examples=30, deadline=None)
def test_removed_is_the_mirror_of_added(proposal, final):
    one, other = (effort_of(*pair, (1, 1)).total for pair in ((proposal, final), (final, proposal)))
    assert (one.added_0, one.added_1) == (other.removed_0, other.removed_1)


def test_a_structure_too_many_on_an_empty_slice_costs_something():
    proposal = np.zeros((9, 9), np.uint8)
    proposal[2:6, 2:6] = 1
    found = effort_of(proposal, np.zeros_like(proposal), (1, 1))
    assert (found.total.added_1, found.total.removed_1, found.accepted) == (0, 12, 0)


def test_a_border_one_pixel_aside_is_accepted_and_voxels_say_that_it_moved():
    proposal, final = np.zeros((12, 12), np.uint8), np.zeros((12, 12), np.uint8)
    proposal[3:9, 3:9], final[3:9, 4:10] = 1, 1
    found = effort_of(proposal, final, (1, 1))
    assert found.accepted == 1 and found.voxels == 12 and found.total.added_0 > 0


def test_slices_add_up_and_come_back_from_json():
    proposal, final = np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8)
    final[2:6, 2:6] = 2
    one = effort_of(proposal, final, (1, 1))
    both = total_of([one, effort_of(final, final, (1, 1))])
    assert (both.slices, both.accepted, both.total.added_1) == (2, 1, 12)
    assert Effort.from_json(both.to_json()) == both
    assert total_of([]) == Effort()


def test_minutes_follow_from_stated_constants_that_can_be_changed():
    final = np.zeros((9, 9), np.uint8)
    final[2:6, 2:6] = 1
    effort = effort_of(np.zeros_like(final), final, (1, 1))
    assert TimeModel().seconds(effort) == pytest.approx(5.0 + 0.15 * 12)
    assert TimeModel(1, 1, 0).seconds(effort) == 13
