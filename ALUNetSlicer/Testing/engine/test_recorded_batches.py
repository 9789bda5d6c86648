"""Every strategy chooses from stored model outputs what it chose when that was recorded, on
every machine.
"""

from __future__ import annotations

import pytest
from recorded import batches

HOW = (
    "If that is meant, record it in a commit of its own that says why: "
    "python ALUNetSlicer/Testing/recorded/record.py batches"
)


@pytest.fixture(scope="module")
def arrays():
    return batches.load()


@pytest.fixture(scope="module")
def recorded():
    return batches.recorded()


def test_every_strategy_is_recorded_and_none_has_gone(recorded):
    new, gone = set(batches.forms()) - set(recorded), set(recorded) - set(batches.forms())
    assert not new, f"No batch is recorded for {', '.join(sorted(new))}. {HOW}"
    assert not gone, f"{', '.join(sorted(gone))} cannot be asked any more. {HOW}"


@pytest.mark.parametrize("strategy", batches.forms())
def test_the_batch_is_the_recorded_one(strategy, arrays, recorded):
    if strategy not in recorded:
        pytest.fail(f"No batch is recorded for {strategy}. {HOW}", pytrace=False)
    found, wanted = batches.chosen(strategy, arrays), recorded[strategy]
    assert found["ids"] == wanted["ids"], (
        f"{strategy} chooses other samples, or in another order. {HOW}"
    )
    assert found["uncertainty"] == wanted["uncertainty"], (
        f"{strategy} ranks the uncertainty differently. {HOW}"
    )
    assert found["reasons"] == wanted["reasons"], f"{strategy} gives other reasons. {HOW}"


def test_no_batch_depends_on_the_last_digits_of_a_number(arrays, recorded):
    """Only then can the batches be the same on every machine; checked again, because a strategy
    may have changed.
    """
    near = batches.disturbed(arrays, 99)
    moved = [name for name in batches.forms() if batches.chosen(name, near) != recorded.get(name)]
    assert not moved
