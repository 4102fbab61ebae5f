"""Finding the pose of a frame: known poses come back, from sharp frames and from frames as dreams show them."""

import numpy as np
import pytest

from latentcraft.simulator.fidelity.pictures import smooth
from latentcraft.simulator.fidelity.pose import (
    FOUND,
    PoseFitter,
    displacement,
    distance,
    fit_along,
    likeness_at,
    pose_offset,
    view_angle,
)
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import HELD_OUT_SEED

SIZE = (96, 160)
OPEN = (HELD_OUT_SEED + 2, HELD_OUT_SEED + 9)
"""Seeds whose first view shows a landscape."""


@pytest.fixture(scope="module")
def fitter():
    return PoseFitter(SIZE)


def blurred(frame, seed=0):
    """Blurred over about five pixels, noisy, paler and of another tint: a frame as a young dream shows it."""
    rng = np.random.default_rng(seed)
    soft = smooth(frame.astype(np.float32), 6) + rng.normal(0, 8, frame.shape)
    return np.clip(0.85 * soft + np.array([14, -4, 8]), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("seed", OPEN)
def test_a_sharp_frame_gives_its_pose(fitter, seed):
    game = Reference(seed)
    frame = game.draw(SIZE)
    fit = fitter.fit(game, frame, [np.array(game.pose) + (0.7, 0.2, -0.6, 8.0, -4.0)])
    degrees, blocks = fit.error(game.pose)
    assert degrees < 0.5 and blocks < 0.15 and fit.likeness > 0.97
    assert -180 <= fit.pose[3] <= 180


@pytest.mark.parametrize("seed", OPEN)
def test_a_blurred_noisy_tinted_frame_gives_nearly_its_pose(fitter, seed):
    game = Reference(seed)
    fit = fitter.fit(game, blurred(game.draw(SIZE)), [np.array(game.pose) + (0.6, 0.0, 0.5, -7.0, 4.0)])
    degrees, blocks = fit.error(game.pose)
    assert fit.found and degrees < 2 and blocks < 0.4


def test_a_dream_that_is_off_shows_by_how_much(fitter):
    game = Reference(OPEN[0])
    x, y, z, yaw, pitch = game.pose
    shown = (x + 1.0, y, z - 0.5, yaw + 25.0, pitch - 6.0)
    fit = fitter.fit(game, blurred(game.draw(SIZE, shown)), [game.pose])
    degrees, blocks = fit.error(game.pose)
    assert degrees == pytest.approx(view_angle(shown, game.pose), abs=1.5)
    assert blocks == pytest.approx(np.hypot(1.0, 0.5), abs=0.3)
    np.testing.assert_allclose(pose_offset(game.pose, fit.pose)[3:], (25, -6), atol=1.5)


def test_other_places_and_plain_frames_are_not_found(fitter):
    game, other = Reference(OPEN[0]), Reference(OPEN[1])
    assert not fitter.fit(game, other.draw(SIZE), [game.pose]).found
    assert not fitter.fit(game, np.full((*SIZE, 3), 90, np.uint8), [game.pose]).found
    noise = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    assert not fitter.fit(game, noise, [game.pose]).found


def test_ignored_pixels_do_not_count(fitter):
    game = Reference(OPEN[0])
    frame, ignore = game.draw(SIZE), np.zeros(SIZE, bool)
    frame[10:60, 20:90] = (255, 0, 255)
    ignore[10:60, 20:90] = True
    fit = fitter.fit(game, frame, [np.array(game.pose) + (0.3, 0.0, 0.2, 4.0, 2.0)], ignore=ignore)
    # Smoothing lets a little of the magenta into the pixels beside.
    assert fit.error(game.pose)[0] < 0.5 and fit.likeness > 0.85


def test_the_same_frame_gives_the_same_fit(fitter):
    game = Reference(OPEN[1])
    frame, guess = blurred(game.draw(SIZE)), [np.array(game.pose) + (0.5, 0.0, 0.5, 5.0, 5.0)]
    assert fitter.fit(game, frame, guess) == PoseFitter(SIZE).fit(game, frame, guess)


def test_likeness_of_the_true_pose():
    game = Reference(OPEN[0])
    x, y, z, yaw, pitch = game.pose
    assert likeness_at(game, game.draw(SIZE), game.pose) == pytest.approx(1, abs=1e-4)
    assert likeness_at(game, game.draw(SIZE), (x, y, z, yaw + 90, pitch)) < FOUND


def test_a_height_is_found_between_the_heights_tried():
    game, heights = Reference(OPEN[0]), np.arange(-0.4, 2.05, 0.1)
    poses = np.repeat(np.array(game.pose)[None], len(heights), 0)
    poses[:, 1] += heights
    for height in (0.0, 0.63, 1.25):
        x, y, z, yaw, pitch = game.pose
        frame = blurred(game.draw(SIZE, (x, y + height, z, yaw, pitch)))
        assert fit_along(game, frame, poses, heights) == pytest.approx(height, abs=0.06)


def test_angles_and_distances_go_the_short_way_round():
    assert view_angle((0, 0, 0, 179, 0), (0, 0, 0, -179, 0)) == pytest.approx(2)
    assert view_angle((0, 0, 0, 10, 90), (0, 0, 0, 130, 90)) == pytest.approx(0, abs=1e-5)
    assert view_angle((0, 0, 0, 0, 20), (0, 0, 0, 0, -15)) == pytest.approx(35)
    np.testing.assert_allclose(displacement((255, 5, 1, 0, 0), (1, 4, 254, 0, 0)), (2, -1, -3))
    assert distance((255.5, 0, 0, 0, 0), (0.5, 0, 0, 0, 0)) == pytest.approx(1)
    np.testing.assert_allclose(pose_offset((255, 0, 0, 170, 5), (1, 0, 0, -170, 7)), (2, 0, 0, 20, 2))
