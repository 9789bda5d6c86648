"""The learning rate over a training of any length, the average of the weights, and a training by
time.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from alunet.errors import InputError
from alunet.loop import preset
from alunet.model.schedules import RateSchedule, WeightAverage, rate
from alunet.model.settings import TrainingSettings

SHAPES = ("poly", "cosine", "linear")


@given(steps=st.integers(1, 5000), shape=st.sampled_from(SHAPES), warmup=st.floats(0, 0.5))
def test_the_rate_rises_to_the_peak_and_falls_to_zero_over_exactly_the_steps(steps, shape, warmup):
    rates = [rate(step, steps, shape, warmup) for step in range(steps)]
    rise = round(warmup * steps)
    assert all(0 <= value <= 1 for value in rates)
    assert rates[:rise] == sorted(rates[:rise])
    assert rates[rise:] == sorted(rates[rise:], reverse=True)
    if rise < steps:
        assert max(rates) == pytest.approx(1)
    assert rate(steps, steps, shape, warmup) == pytest.approx(0, abs=1e-12)


def test_poly_without_a_rise_is_that_of_nnunet():
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    parameters = [torch.nn.Parameter(torch.zeros(1))]
    ours, theirs = torch.optim.SGD(parameters, 0.01), torch.optim.SGD(parameters, 0.01)
    schedule, reference = (
        RateSchedule(ours, 0.01, 300, "poly", 0.0),
        PolyLRScheduler(theirs, 0.01, 300),
    )
    for step in (0, 1, 150, 299):
        schedule.step(step)
        reference.step(step)
        assert ours.param_groups[0]["lr"] == pytest.approx(theirs.param_groups[0]["lr"])


def weights_after(
    average: WeightAverage, parameter: torch.nn.Parameter, values: list[float]
) -> None:
    for value in values:
        parameter.data.fill_(value)
        average.update()


def test_the_average_is_a_plain_mean_until_its_window_is_full_and_then_forgets():
    parameter = torch.nn.Parameter(torch.full((2,), 99.0))
    average = WeightAverage([parameter], window=4)
    weights_after(average, parameter, [1.0, 2.0, 3.0, 6.0])
    average.swap()
    assert parameter.tolist() == [3.0, 3.0], "the start, 99, counts nothing"
    average.swap()
    assert parameter.tolist() == [6.0, 6.0], "the weights of the last step are back"
    weights_after(average, parameter, [7.0])
    average.swap()
    assert parameter.tolist() == [4.0, 4.0]


def test_an_interrupted_average_goes_on_as_if_nothing_had_happened():
    parameter = torch.nn.Parameter(torch.zeros(3))
    whole = WeightAverage([parameter], window=3)
    weights_after(whole, parameter, [1.0, 5.0, 2.0, 8.0])
    halves = WeightAverage([parameter], window=3)
    weights_after(halves, parameter, [1.0, 5.0])
    later = WeightAverage([parameter], window=3)
    later.restore({"values": [value.clone() for value in halves.state()["values"]], "updates": 2})
    weights_after(later, parameter, [2.0, 8.0])
    assert torch.equal(whole.state()["values"][0], later.state()["values"][0])


@given(seconds=st.floats(0.1, 1e5), step=st.floats(1e-3, 50))
def test_a_time_becomes_the_steps_that_fit_into_it(seconds, step):
    found = TrainingSettings(seconds=seconds).paced(step)
    steps = found.epochs * found.iterations
    assert found.seconds is None
    assert steps >= 1
    if seconds / step > 1:
        assert steps * step == pytest.approx(seconds, rel=0.5)
    if seconds / step > 1000:
        assert steps * step == pytest.approx(seconds, rel=0.03)


def test_a_recipe_by_time_differs_in_nothing_else():
    recipe = preset("cpu").for_seconds(90)
    assert (recipe.first.seconds, recipe.later.seconds, recipe.train_for) == (90, 90, 90)
    assert recipe.first.learning_rate == preset("cpu").first.learning_rate
    assert preset("cpu").first.seconds is None, "a study trains for its steps"
    for seconds in (0, -1, float("nan"), float("inf"), 1e7):
        with pytest.raises(InputError, match="not possible"):
            preset("cpu").for_seconds(seconds)


def test_a_narrow_network_is_narrower_still_on_large_patches():
    from alunet.model.plan import features

    planned = [32, 64, 128]
    assert features(planned, 1.0, (512, 512)) == planned
    assert features(planned, 0.5, (128, 128)) == [16, 32, 64]
    assert features(planned, 0.5, (256, 224)) == [8, 16, 32]
    assert features([2, 4], 0.25, (8, 8)) == [1, 1]
