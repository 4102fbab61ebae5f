"""Figures: Wilson's interval of a share, with its known values."""

import math

import pytest

from latentcraft.simulator.fidelity.figures import share


def test_all_right_leaves_room_for_luck():
    figure = share([1.0] * 8)
    assert figure.value == figure.high == 100 and figure.count == 8
    assert figure.low == pytest.approx(100 * 8 / (8 + 1.96**2), abs=0.01)  # 67.6 %
    none = share([0.0] * 8)
    assert none.value == none.low == 0 and none.high == pytest.approx(100 - figure.low)


def test_half_right_is_symmetric_and_narrows_with_the_count():
    few, many = share([0, 1] * 5), share([0, 1] * 200)
    for figure in (few, many):
        assert figure.value == 50 and figure.high - 50 == pytest.approx(50 - figure.low)
    assert few.low == pytest.approx(23.66, abs=0.01)
    assert many.low == pytest.approx(45.12, abs=0.01)


def test_unknown_samples_are_left_out():
    assert share([1.0, math.nan]).count == 1
    assert share([]).count == 0 and math.isnan(share([]).value)
