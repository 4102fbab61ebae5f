"""Courses: the reference itself does on them what they are for."""

import numpy as np
import pytest

from latentcraft.model.actions import BUTTON_INDEX, PITCH
from latentcraft.simulator.fidelity.courses import (
    COURSES,
    HALF_TURN,
    JUMP_END,
    PACE,
    READY,
    REST,
    TICKS,
    find_courses,
    stroll,
)
from latentcraft.simulator.fidelity.pose import displacement, view_angle
from latentcraft.simulator.fidelity.reference import Reference
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.voxel.blocks import PASSABLE


@pytest.fixture(scope="module")
def courses():
    return find_courses(HELD_OUT_SEED, 2, 4)


def of(courses, kind):
    return [course for course in courses if course.kind == kind]


def test_two_of_each_kind_and_poses_as_played(courses):
    assert [course.kind for course in courses] == [kind for kind in COURSES for _ in range(2)]
    for course in courses:
        game = Reference(course.seed)
        assert len(course.actions) == TICKS and course.seed >= HELD_OUT_SEED
        np.testing.assert_array_equal(course.poses[0], game.pose)
        np.testing.assert_array_equal(course.poses[1:], game.play(course.actions))
        assert not game.game.edits


def test_jump_lands_and_turns_once_round(courses):
    for course in of(courses, "jump"):
        heights = course.poses[:, 1] - course.poses[REST, 1]
        assert heights.max() == pytest.approx(1.25, abs=0.01) and heights[JUMP_END:].max() == 0
        assert view_angle(course.poses[HALF_TURN], course.poses[JUMP_END]) == pytest.approx(180, abs=0.01)
        assert view_angle(course.poses[TICKS], course.poses[JUMP_END]) == pytest.approx(0, abs=0.01)


def test_walk_is_level_at_walking_speed(courses):
    for course in of(courses, "walk"):
        way = displacement(course.poses[PACE[0]], course.poses[PACE[1]])
        assert way[1] == 0 and np.linalg.norm(way) == pytest.approx(4.317, abs=0.01)


def test_wall_stops_before_two_solid_blocks(courses):
    for course in of(courses, "wall"):
        assert 1.5 < np.linalg.norm(course.way) < 5 and course.actions[READY:, BUTTON_INDEX["forward"]].all()
        assert np.abs(np.diff(course.poses[-10:, :3], axis=0)).max() < 1e-3
        ahead = course.poses[-1, :3] + course.way / np.linalg.norm(course.way) * 0.5
        x, y, z = np.floor(ahead).astype(int).tolist()
        assert not any(PASSABLE[Reference(course.seed).block((x, y + up, z))] for up in (0, 1))


def test_fall_ends_on_lower_ground(courses):
    for course in of(courses, "fall"):
        assert course.way[1] <= -2 and np.ptp(course.poses[-4:, 1]) == 0


def test_a_stroll_gets_about_and_leaves_blocks_alone():
    game = Reference(HELD_OUT_SEED + 2)
    actions = stroll(game, 200)
    assert not actions[:, [BUTTON_INDEX["attack"], BUTTON_INDEX["use"]]].any()
    assert np.abs(actions[:, PITCH:]).max() < 15
    np.testing.assert_array_equal(actions, stroll(Reference(HELD_OUT_SEED + 2), 200))
    start, poses = game.pose, game.play(actions)
    assert max(np.linalg.norm(displacement(start, pose)) for pose in poses) > 8 and not game.game.edits
