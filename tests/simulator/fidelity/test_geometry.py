"""Geometry: the reference is where it should be; worlds that stand still, turn too little or drift are found out."""

import numpy as np
import pytest

from latentcraft.model.actions import BUTTON_INDEX, YAW
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.fidelity.adapters import CopyLastWorld, WorldAround
from latentcraft.simulator.fidelity.bodies import jump_of
from latentcraft.simulator.fidelity.drift import Stroll, drift
from latentcraft.simulator.fidelity.figures import Subject
from latentcraft.simulator.fidelity.geometry import GEOMETRY_COLUMNS, GeometryPlan, geometry_study
from latentcraft.simulator.fidelity.pose import PoseFitter
from latentcraft.simulator.fidelity.reference import Reference, press
from latentcraft.simulator.protocol import HELD_OUT_SEED
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (96, 160)
PLAN = GeometryPlan(games=2, horizons=(0.2, 2.0), courses=1)


class LazyWorld(WorldAround):
    """Turns by nine tenths of what is asked, and never jumps."""

    def __init__(self, inner):
        super().__init__(inner, "lazy")

    def step(self, actions):
        actions = actions.copy()
        actions[..., YAW] *= 0.9
        actions[..., BUTTON_INDEX["jump"]] = 0
        return self.inner.step(actions)


def figures_of(make):
    return geometry_study(Subject("test", make), PLAN)


def test_the_reference_is_where_it_should_be():
    figures = figures_of(lambda games, task: VoxelWorld(games, task))
    assert set(figures) == {column.key for column in PLAN.columns()}
    value = {key: figure.value for key, figure in figures.items()}
    assert max(value["degrees@0.2s"], value["degrees@2s"], value["turn_degrees"]) < 0.5
    assert max(value["blocks@0.2s"], value["blocks@2s"], value["wall_error"], value["fall_error"]) < 0.15
    assert value["lost@2s"] == 0 and value["wall_stops"] == value["falls"] == 100 and value["turn_gain"] > 10
    assert value["jump_height"] == pytest.approx(1.25, abs=0.05) and value["jump_error"] < 0.05
    assert value["air_time"] == pytest.approx(0.5) and value["air_error"] == 0
    assert value["walk_speed"] == pytest.approx(4.32, abs=0.15) and value["walk_error"] < 0.15


def test_a_frozen_world_goes_nowhere():
    value = {k: f.value for k, f in figures_of(lambda games, task: CopyLastWorld(VoxelWorld(games, task))).items()}
    assert value["blocks@2s"] > 2 and value["blocks@2s"] > value["blocks@0.2s"]
    assert value["jump_height"] < 0.1 and value["air_time"] == 0 and value["jump_error"] > 1.1
    assert value["turn_degrees"] == 40 and value["turn_gain"] == 0
    assert value["walk_error"] > 2 and value["wall_stops"] == value["falls"] == 0


def test_a_world_that_turns_too_little_and_cannot_jump():
    value = {k: f.value for k, f in figures_of(lambda games, task: LazyWorld(VoxelWorld(games, task))).items()}
    # 36 degrees are missing after a full turn.
    assert value["turn_degrees"] == pytest.approx(36, abs=3)
    assert value["jump_height"] < 0.1 and value["air_error"] == pytest.approx(0.5)


def test_a_dream_is_measured_the_same_twice(tiny_checkpoint):
    plan = GeometryPlan(games=1, horizons=(0.2, 1.0), courses=1)

    def make(games, task):
        return DreamWorld(num_worlds=games, task=task, checkpoint=tiny_checkpoint, steps=1)

    once, twice = (geometry_study(Subject("dream", make), plan) for _ in range(2))
    assert repr(once) == repr(twice)  # a walk that is lost has no speed, and NaN is not equal to itself
    assert once["wall_error"].count == 1 and set(once) == {column.key for column in plan.columns()}


def test_drift_is_measured_as_it_is():
    seed, ticks = HELD_OUT_SEED + 2, [4, 12, 20]
    played = Stroll(seed, press(ticks=20), (True, True, False))
    game, frames = Reference(seed), []
    for offset in (np.zeros(5), np.array([0.6, 0.0, -0.8, 9.0, 0.0]), np.zeros(5)):
        frames.append(game.draw(SIZE, tuple(game.pose + offset)))
    errors = drift(PoseFitter(SIZE), played, np.stack(frames), ticks, 4)
    assert errors[0, 0] < 0.5 and errors[0, 1] < 0.15
    assert errors[1, 0] == pytest.approx(9, abs=1) and errors[1, 1] == pytest.approx(1, abs=0.2)
    assert np.isnan(errors[2]).all()  # no frame could tell
    lost = drift(PoseFitter(SIZE), played, np.zeros((3, *SIZE, 3), np.uint8), ticks, 4)
    np.testing.assert_array_equal(lost[:2], [[40, 3, 1], [40, 3, 1]])


def test_a_jump_is_read_off_heights():
    true = [0.42, 0.75, 1.0, 1.17, 1.25, 1.25, 1.18, 1.02, 0.79, 0.48, 0.1, 0.0, 0.0]
    height, air = jump_of(true)
    assert height == pytest.approx(1.25) and air == pytest.approx(0.5)
    assert jump_of([0.0, 0.1, 2.0, -0.1, 0.0]) == (pytest.approx(0.1), 0)  # one wrong frame is no jump


def test_plans_and_columns():
    keys = [column.key for column in GEOMETRY_COLUMNS]
    assert len(set(keys)) == len(keys) and {"degrees@10s", "blocks@0.2s", "lost@10s"} <= set(keys)
    assert {column.key for column in GeometryPlan.quick().columns()} <= set(keys)
