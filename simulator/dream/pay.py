"""What chunks of a dream are paid, and when its task ends."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from latentcraft.model.goals import moved_by
from latentcraft.model.outcomes import Outcomes, expected_reward
from latentcraft.model.place import Place
from latentcraft.model.scene import Scene

ENDED = 0.5
"""Probability that a task goes on below which it has ended."""


def settled(
    scene: Scene | None, outcomes: Outcomes, past: Tensor, latents: Tensor, changes: Tensor, ways: Tensor, task: Tensor
) -> Outcomes:
    """Return ``outcomes`` of chunks with the scene's word on tasks that pay for deeds, or for the way, only.

    Args:
        scene: whose nets know that; None knows nothing.
        outcomes: what the transformer's head says, ``(b, f, ...)``.
        past: the chunks before, ``(b, f, h, w, c)``.
        latents: the chunks.
        changes: what hands do in them, ``(b, f, 2)``.
        ways: where eyes go in them, see :func:`moved`.
        task: ``int64 (b,)``.
    """
    if scene is not None and scene.deeds is not None:
        reward = scene.deeds.settled(outcomes.reward, past, latents, changes, task)
        outcomes = Outcomes(reward, outcomes.terminated)
    if scene is not None and scene.goals is not None:
        outcomes = scene.goals.settled(outcomes, past, latents, ways, task)
    return outcomes


def moved(stood: Sequence[np.ndarray | None], places: Sequence[Place | None], frames: int) -> Tensor:
    """Return where eyes go from where they ``stood`` in the coming chunk, ``(b, f, 2)``, see
    :func:`latentcraft.model.goals.moved_by`; NaN where nobody knows.
    """
    ways = []
    for eye, place in zip(stood, places, strict=True):
        if eye is None or place is None or place.ahead is None:
            ways.append(torch.full((frames, 2), torch.nan))
        else:
            ways.append(moved_by(torch.from_numpy(np.concatenate([eye[None], place.ahead.eyes]))))
    return torch.stack(ways)


def count_out(reward: Tensor, terminated: Tensor, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rewards ``float32 (b, f)`` and ends ``bool (b, f)`` of chunks from the logits of them, and the chance that
    each game's task is still open after them, ``(b,)``, ``alive`` being that before.
    """
    goes_on = np.cumprod(1 - terminated.double().sigmoid().numpy(), 1) * alive[:, None]
    ended = goes_on < ENDED
    before = np.concatenate([alive[:, None], np.where(ended, 0.0, goes_on)[:, :-1]], 1)
    rewards = (expected_reward(reward).numpy() * before).astype(np.float32)
    return rewards, ended, np.where(ended[:, -1], 0.0, goes_on[:, -1])
