"""The bundled scripts do what they say, in the reference world, at the seeds their ``about`` lines name."""

import re

import numpy as np
import pytest

from latentcraft.agents.rollout import RolloutConfig, play
from latentcraft.agents.script import bundled_scripts, load_script
from latentcraft.simulator.protocol import HELD_OUT_SEED, TICKS_PER_SECOND


def path_of(script: str, **params: str) -> np.ndarray:
    """Play a script where its ``about`` says (else at 900001); returns x, y, z, yaw, pitch by tick, ``(T + 1, 5)``."""
    named = re.search(r"seed (\d+)", load_script(script).about)
    seed = int(named[1]) if named else 900001
    assert seed >= HELD_OUT_SEED
    # Nobody looks at these pictures, so they are as small as they can be.
    runs = play(RolloutConfig(script, params, world="voxel", seed=seed, frame_size=(16, 16)))
    assert runs["voxel"].poses is not None
    return runs["voxel"].poses[0]


def walked(path: np.ndarray) -> np.ndarray:
    """Return metres walked in each tick, ``(T,)``."""
    return np.hypot(*np.diff(path[:, [0, 2]], axis=0).T)


@pytest.mark.parametrize("name", bundled_scripts())
def test_a_script_lasts_as_long_as_it_says(name: str):
    script = load_script(name)
    said = re.search(r"\((some )?(\d+) seconds\)", script.about)
    assert said is not None
    assert len(script.actions) / TICKS_PER_SECOND == pytest.approx(int(said[2]), abs=4 if said[1] else 0.01)


def test_full_turn_ends_where_it_began():
    path = path_of("full_turn")
    np.testing.assert_allclose(path[-1], path[0], atol=0.02)  # the warm-up's last step comes to rest
    assert np.ptp(path[:, 3]) > 350


def test_dig_and_return_ends_with_the_view_of_the_hole():
    path = path_of("dig_and_return")
    np.testing.assert_allclose(path[-1], path[2 * TICKS_PER_SECOND], atol=0.01)  # while it digs
    assert path[-1, 4] == 45


@pytest.mark.parametrize("height", [3, 5])
def test_build_tower_stands_on_its_top_and_comes_down(height: int):
    heights = path_of("build_tower", height=str(height))[:, 1]
    look_round = heights[-9 * TICKS_PER_SECOND : -6 * TICKS_PER_SECOND]
    assert (look_round == heights[TICKS_PER_SECOND] + height).all()
    assert heights[-1] == heights[TICKS_PER_SECOND]


def test_build_wall_cannot_be_walked_through_or_jumped_over():
    path = path_of("build_wall")
    pushing = slice(-5 * TICKS_PER_SECOND, -2 * TICKS_PER_SECOND)
    away = np.hypot(*(path[:, [0, 2]] - path[0, [0, 2]]).T)
    assert away[pushing].max() < 2.5
    assert np.ptp(path[pushing, 1]) > 1  # it jumped


def test_swim_dives_and_comes_up_again():
    path = path_of("swim")
    shore, bottom, end = path[0, 1], path[:, 1].min(), path[-1, 1]
    assert bottom < shore - 4 and bottom + 2 < end < shore
    assert walked(path).sum() > 20


def test_wall_is_stopped_on_all_four_sides():
    steps = walked(path_of("wall"))
    for side in range(4):
        assert steps[side * 70 + 35 : side * 70 + 40].max() < 0.01, side


def test_climb_climbs():
    heights = path_of("climb")[:, 1]
    assert heights[-1] - heights[0] >= 5


def test_wander_is_another_stroll_for_another_seed():
    lengths = {len(load_script("wander", seed=seed).actions) for seed in range(8)}
    assert len(lengths) > 4
    assert min(lengths) > 12 * TICKS_PER_SECOND and max(lengths) < 30 * TICKS_PER_SECOND
