from pathlib import Path

import numpy as np
import pytest

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTON_INDEX, PITCH, YAW, noop, to_vector
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.simulator.fidelity.adapters import (
    CodecWorld,
    CopyLastWorld,
    ForgetfulWorld,
    WrongActionsWorld,
    wrong_actions,
)
from latentcraft.simulator.protocol import HELD_OUT_SEED, Start
from latentcraft.simulator.voxel.world import VoxelWorld

SIZE = (32, 48)
STARTS = [Start(seed=HELD_OUT_SEED), Start(seed=HELD_OUT_SEED + 1)]


def reference(games: int = 2) -> VoxelWorld:
    return VoxelWorld(num_worlds=games, frame_size=SIZE)


def walking(games: int = 2) -> np.ndarray:
    actions = noop(games, 4)
    actions[..., BUTTON_INDEX["forward"]] = 1
    actions[..., YAW] = 3
    return actions


def test_copy_last_shows_the_last_frame_for_ever():
    world, true = CopyLastWorld(reference()), reference().reset(STARTS)
    assert (world.reset(STARTS) == true[:, -1:]).all()
    chunk = world.step(walking())
    assert (chunk.frames == true[:, -1:]).all() and chunk.frames.shape == (2, 4, *SIZE, 3)
    state = world.save(0)
    world.reset([Start(seed=HELD_OUT_SEED + 2), None])
    assert (world.step(walking()).frames[1] == true[1, -1]).all(), "None leaves a game alone"
    assert (world.restore(state, 0) == true[0, -1]).all()
    with pytest.raises(UserError, match="shape"):
        world.step(noop(1, 4))


def test_the_codec_world_is_the_reference_through_the_autoencoder(tiny_checkpoint: Path):
    model = load_checkpoint(tiny_checkpoint)
    world, true = CodecWorld(reference(), model.autoencoder), reference()
    import torch

    def through(frames: np.ndarray) -> np.ndarray:
        flat = torch.from_numpy(frames.reshape(-1, *SIZE, 3))
        return model.autoencoder.decode(model.autoencoder.encode(flat)).numpy().reshape(frames.shape)

    assert (world.reset(STARTS) == through(true.reset(STARTS))).all()
    world.skip(walking())
    true.step(walking())
    after = true.step(walking()).frames
    assert (world.step(walking()).frames == through(after)).all() and not (through(after) == after).all()
    state = world.save(1)
    world.step(walking())
    assert (world.restore(state, 1) == through(after)[1]).all()


def test_wrong_actions_are_those_of_another_game():
    actions = noop(2, 4)
    actions[0, :, YAW] = 5
    actions[1, :, BUTTON_INDEX["jump"]] = 1
    assert (wrong_actions(actions) == actions[::-1]).all()


def test_where_all_games_do_the_same_wrong_actions_are_mirrored():
    action = to_vector({"forward": 1, "left": 1, "attack": 1, "hotbar.3": 1, "camera": (2.0, -4.0)})
    mirrored = to_vector({"back": 1, "right": 1, "use": 1, "hotbar.3": 1, "camera": (-2.0, 4.0)})
    for games in (1, 3):
        actions = np.tile(action, (games, 4, 1))
        assert (wrong_actions(actions) == mirrored).all()
        assert (actions == action).all(), "the given actions are left alone"
    assert not wrong_actions(noop(1, 4)).any()


def test_the_wrong_actions_world_plays_the_other_game():
    world, true = WrongActionsWorld(reference(1)), reference(1)
    assert (world.reset(STARTS[:1]) == true.reset(STARTS[:1])).all()
    turning = noop(1, 4)
    turning[..., YAW] = 4
    assert (world.step(turning).frames == true.step(-turning).frames).all()


def test_a_forgetful_world_takes_edits_back():
    def look_down_and_dig(world: VoxelWorld | ForgetfulWorld) -> None:
        down = noop(1, 4)
        down[..., PITCH] = 22.5
        world.step(down)
        dig = noop(1, 4)
        dig[..., BUTTON_INDEX["attack"]] = 1
        for _ in range(12):
            world.step(dig)

    true, inner = reference(1), reference(1)
    forgetful = ForgetfulWorld(inner, after=80)
    for world in (true, forgetful):
        world.reset(STARTS[:1])
        look_down_and_dig(world)
    state = forgetful.save()
    dug = true.save().arrays["edit_cells"]
    assert len(dug) and (inner.save().arrays["edit_cells"] == dug).all()
    before = inner.game().blocks.copy()
    for _ in range(80 // 4):
        forgetful.step(noop(1, 4))
    assert not len(inner.save().arrays["edit_cells"])
    assert (inner.game().blocks != before).sum() == len(dug), "the blocks are back"
    assert len(true.save().arrays["edit_cells"]) == len(dug)
    forgetful.restore(state)
    forgetful.step(noop(1, 4))
    assert len(inner.save().arrays["edit_cells"]) == len(dug), "as young as when it was saved"


def test_forgetting_leaves_a_game_without_edits_alone():
    true, forgetful = reference(), ForgetfulWorld(reference(), after=0)
    true.reset(STARTS)
    forgetful.reset(STARTS)
    for _ in range(3):
        assert (forgetful.step(walking()).frames == true.step(walking()).frames).all()
