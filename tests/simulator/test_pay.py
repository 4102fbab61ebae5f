"""What a dream is paid where the scene's nets know it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.goals import moved_by
from latentcraft.model.tasks import TASK_INDEX
from latentcraft.model.whereabouts import distances_on_ground
from latentcraft.simulator.dream.pay import moved, walked
from latentcraft.simulator.dream.world import DreamWorld
from latentcraft.simulator.protocol import Start


def test_a_task_that_pays_for_the_way_pays_for_the_eyes_own(tiny_checkpoint: Path):
    model = load_checkpoint(tiny_checkpoint)
    assert model.scene is not None and model.scene.goals is not None
    pay = model.scene.goals.pay
    pay.weight.zero_()
    pay.bias.copy_(torch.tensor([0.0, 0, 1, -20, 0, 0]))  # a metre pays 1, and nothing ends
    world = DreamWorld(checkpoint=model, steps=1, task="navigate-shaped", num_worlds=2)
    world.reset([Start(seed=3), Start(seed=4)])
    forward = np.zeros((2, 4, ACTION_SIZE), np.float32)
    forward[0, :, BUTTON_INDEX["forward"]] = 1
    for _ in range(3):
        stood = [place.eye for place in world._places if place is not None]
        chunk = world.step(forward)
        for eye, place, rewards in zip(stood, world._places, chunk.rewards, strict=True):
            assert eye is not None and place is not None and place.ahead is not None
            way = moved_by(torch.from_numpy(np.concatenate([eye[None], place.ahead.eyes]))).norm(dim=-1)
            np.testing.assert_allclose(rewards, way.clamp(max=2), atol=2e-3)
            np.testing.assert_allclose(place.eye, place.ahead.eyes[-1], atol=1e-9)
        assert chunk.rewards[0].any() and not chunk.terminated.any()
    pay.bias[3] = 20.0  # everything ends
    assert world.step(forward).terminated.all()


def test_nobody_knows_the_way_of_an_eye_that_is_nowhere():
    paths = walked([None, np.zeros(5)], [None, None])
    assert paths == [None, None]
    told = moved(paths, 4)
    assert told.shape == (2, 4, 2) and told.isnan().all()
    with pytest.raises(ValueError):
        walked([None], [])


def test_a_goal_stands_where_the_start_has_it_and_the_way_to_it_pays(tiny_checkpoint: Path):
    model = load_checkpoint(tiny_checkpoint)
    assert model.scene is not None and model.scene.whereabouts is not None
    net = model.scene.whereabouts
    net.rate[TASK_INDEX["navigate"]] = 0.5
    world = DreamWorld(checkpoint=model, steps=1, task="navigate", num_worlds=2)
    world.reset([Start(seed=3), Start(seed=3, noise_seed=4)])
    goals = [place.goal for place in world._places if place is not None]
    assert goals[0] is not None and goals[1] is not None and (goals[0] != goals[1]).any()
    other = DreamWorld(checkpoint=model, steps=1, task="navigate")
    other.reset([Start(seed=3)])
    assert other._places[0] is not None
    np.testing.assert_array_equal(other._places[0].goal, goals[0])
    forward = np.zeros((2, 4, ACTION_SIZE), np.float32)
    forward[:, :, BUTTON_INDEX["forward"]] = 1
    for _ in range(2):
        stood = [place.eye for place in world._places if place is not None]
        chunk = world.step(forward)
        assert not chunk.terminated.any()
        for index, (eye, place) in enumerate(zip(stood, world._places, strict=True)):
            assert eye is not None and place is not None and place.ahead is not None and place.goal is not None
            away = distances_on_ground(place.goal, np.concatenate([eye[None], place.ahead.eyes]))
            np.testing.assert_allclose(chunk.rewards[index], 0.5 * -np.diff(away), atol=2e-3)
            np.testing.assert_array_equal(chunk.infos[index]["goal"], goals[index])
            assert chunk.infos[index]["distance"] == pytest.approx(away[-1])
    other.restore(world.save(1))
    assert other._places[0].goal is not None
    again, first = other.step(forward[1:]), world.step(forward)
    np.testing.assert_array_equal(again.frames[0], first.frames[1])
    np.testing.assert_array_equal(again.rewards[0], first.rewards[1])
    for place in world._places:  # they are there
        assert place is not None and place.eye is not None
        place.set_goal(np.floor(place.eye[:3]).astype(np.int64))
    last = world.step(forward)
    assert last.terminated.all() and (last.rewards.sum(1) > 0.5).all()


def test_without_such_a_task_no_goal_stands_anywhere(tiny_checkpoint: Path):
    for task in ("free", "chop", "navigate-shaped"):
        world = DreamWorld(checkpoint=tiny_checkpoint, steps=1, task=task)
        world.reset([Start(seed=3)])
        assert world._places[0] is not None and world._places[0].goal is None
        chunk = world.step(np.zeros((1, 4, ACTION_SIZE), np.float32))
        assert "goal" not in chunk.infos[0] and "distance" not in chunk.infos[0]
