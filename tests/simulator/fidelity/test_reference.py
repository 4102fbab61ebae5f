"""The opened reference: the same game as VoxelWorld's, and harmless imaginations."""

import numpy as np
import pytest

from latentcraft.model.actions import ACTION_SIZE, PITCH, YAW
from latentcraft.simulator.fidelity.reference import Reference, press, turn, wrap_blocks, wrap_degrees
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.blocks import AIR, BRICK, WATER
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (96, 160)


def busy(ticks, seed=0):
    """Walking, turning and digging, float32 (ticks, 20)."""
    rng = np.random.default_rng(seed)
    actions = (rng.random((ticks, ACTION_SIZE)) < 0.3).astype(np.float32)
    actions[:, PITCH:] = rng.uniform(-8, 8, (ticks, 2))
    return actions


def test_is_the_game_that_the_voxel_world_plays():
    world, reference = VoxelWorld(), Reference(HELD_OUT_SEED)
    frames = world.reset([Start(seed=HELD_OUT_SEED)])
    np.testing.assert_array_equal(reference.draw(SIZE), frames[0, -1])
    actions = busy(40)
    for tick in range(0, 40, 4):
        chunk = world.step(actions[None, tick : tick + 4])
        poses = reference.play(actions[tick : tick + 4])
    assert world.game(0).pose == reference.pose == tuple(poses[-1])
    # Between ticks the arm's swing and the crack are drawn as well; the view itself is the same to the bit.
    np.testing.assert_array_equal(reference.draw(SIZE), chunk.frames[0, -1])


def test_imagining_changes_nothing():
    reference = Reference(HELD_OUT_SEED + 1)
    before, body, status = reference.draw(SIZE), reference.game.body.copy(), reference.game.status.copy()
    x, y, z, yaw, pitch = reference.pose
    cell = int(x) + 1, int(y), int(z) + 1
    elsewhere = reference.draw(SIZE, (x - 300, y + 1, z, yaw + 30, 20), {cell: BRICK})
    poses = reference.rehearse(press("forward", ticks=20))
    assert (elsewhere != before).mean() > 0.5 and poses.shape == (20, 5)
    assert reference.block(cell) == AIR and not reference.game.edits
    np.testing.assert_array_equal(reference.game.body, body)
    np.testing.assert_array_equal(reference.game.status, status)
    np.testing.assert_array_equal(reference.draw(SIZE), before)
    np.testing.assert_array_equal(reference.fork().play(press("forward", ticks=20)), poses)
    assert tuple(poses[-1]) != reference.pose


def test_a_rehearsal_does_not_dig():
    with pytest.raises(AssertionError, match="blocks"):
        Reference(HELD_OUT_SEED).rehearse(press("attack"))


def test_aim_and_blocks():
    reference = Reference(HELD_OUT_SEED)
    x, y, z, yaw, _ = reference.pose
    target, free = reference.aim((x, y, z, yaw, 90.0))
    assert target == (int(x), int(y) - 1, int(z)) and free == (int(x), int(y), int(z))
    assert reference.aim((x, y, z, yaw, -90.0)) is None
    assert reference.block(target) != AIR and reference.block((0, 64, 0)) == reference.block((0, -1, 0)) == AIR
    assert reference.touches(free) and not reference.touches(target)
    assert reference.without(target) == AIR
    reference.game.grid.blocks[target[0] - 1, target[2], target[1]] = WATER
    assert reference.without(target) == WATER
    assert not reference.inside(reference.pose) and reference.inside((x, y - 3, z, yaw, 0.0))


def test_turns_are_exact_and_within_the_speed():
    actions = turn(-31.0, 100.0, 8.0)
    np.testing.assert_allclose(actions[:, PITCH:].sum(0), (-31, 100), atol=1e-4)
    assert np.abs(actions[:, YAW]).max() <= 8 and len(actions) == 13
    assert len(turn(0.0, 0.0, 8.0)) == 1


def test_the_short_way_round():
    assert wrap_degrees(190.0) == -170 and wrap_degrees(-190.0) == 170 and wrap_degrees(720.0) == 0
    assert wrap_blocks(255.0) == -1 and wrap_blocks(-200.0) == 56
