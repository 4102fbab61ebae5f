"""What a dream is paid where the scene's nets know it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX
from latentcraft.model.checkpoint import load_checkpoint
from latentcraft.model.goals import moved_by
from latentcraft.simulator.dream.pay import moved
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
    told = moved([None, np.zeros(5)], [None, None], 4)
    assert told.shape == (2, 4, 2) and told.isnan().all()
    with pytest.raises(ValueError):
        moved([None], [], 4)
