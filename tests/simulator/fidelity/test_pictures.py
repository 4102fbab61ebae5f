"""Pictures made comparable: what is taken out and what is kept."""

import numpy as np
import pytest

from latentcraft.simulator.fidelity import pictures

RNG = np.random.default_rng(0)
PICTURE = RNG.uniform(0, 255, (24, 40, 3)).astype(np.float32)
ALL = np.ones((24, 40, 1), np.float32)


def test_halving_and_smoothing_keep_the_mean():
    assert pictures.halve(PICTURE).shape == (12, 20, 3)
    np.testing.assert_allclose(pictures.halve(PICTURE).mean(), PICTURE.mean(), rtol=1e-5)
    np.testing.assert_allclose(pictures.smooth(PICTURE, 3).mean((0, 1)), PICTURE.mean((0, 1)), rtol=1e-4)
    assert pictures.smooth(PICTURE, 3).std() < PICTURE.std() / 2


def test_smoothing_a_point_gives_the_kernel():
    point = np.zeros((5, 5, 3), np.float32)
    point[2, 2] = 16
    kernel = np.outer([1, 2, 1], [1, 2, 1])
    np.testing.assert_allclose(pictures.smooth(point, 1)[1:4, 1:4, 0], kernel)


def test_a_colour_cast_and_contrast_do_not_matter():
    cast = 0.5 * PICTURE + np.float32([30, 0, 80])
    one, two = pictures.normalise(PICTURE, ALL), pictures.normalise(cast, ALL)
    np.testing.assert_allclose(one, two, atol=1e-4)
    assert pictures.huber(one, two) == pytest.approx(0, abs=1e-6)
    assert pictures.likeness(one, two, ALL) == pytest.approx(1, abs=1e-4)


def test_likeness_is_low_for_another_picture_and_minus_one_for_the_negative():
    other = RNG.uniform(0, 255, PICTURE.shape).astype(np.float32)
    one, two = pictures.normalise(PICTURE, ALL), pictures.normalise(other, ALL)
    assert abs(pictures.likeness(one, two, ALL)) < 0.2
    assert pictures.likeness(one, -one, ALL) == pytest.approx(-1, abs=1e-4)
    assert pictures.likeness(one, 0 * one, ALL) == 0


def test_what_is_masked_counts_nowhere():
    mask = ALL.copy()
    mask[:, 20:] = 0
    spoilt = PICTURE.copy()
    spoilt[:, 20:] = 255
    one, two = pictures.normalise(PICTURE, mask), pictures.normalise(spoilt, mask)
    np.testing.assert_array_equal(one, two)
    assert not one[:, 20:].any()


def test_the_held_block_hides_the_corner():
    mask = pictures.place_mask((96, 160))
    assert mask[0, 0] == 1 and mask[50, 150] == 1 and mask[80, 30] == 1 and mask[80, 130] == 0
