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
    scene: Scene | None, outcomes: Outcomes, past: Tensor, latents: Tensor, changes: Tensor,
    paths: Sequence[np.ndarray | None], places: Sequence[Place | None], task: Tensor,
) -> Outcomes:  # fmt: skip
    """Return ``outcomes`` of chunks with the scene's word on tasks that pay for deeds, or for the way, only.

    Args:
        scene: whose nets know that; None knows nothing.
        outcomes: what the transformer's head says, ``(b, f, ...)``.
        past: the chunks before, ``(b, f, h, w, c)``.
        latents: the chunks.
        changes: what hands do in them, ``(b, f, 2)``.
        paths: where eyes go in them, see :func:`walked`.
        places: that know where goals are.
        task: ``int64 (b,)``.
    """
    if scene is not None and scene.deeds is not None:
        reward = scene.deeds.settled(outcomes.reward, past, latents, changes, task)
        outcomes = Outcomes(reward, outcomes.terminated)
    if scene is not None and scene.goals is not None:
        outcomes = scene.goals.settled(outcomes, past, latents, moved(paths, latents.shape[1]), task)
    if scene is not None and scene.whereabouts is not None:
        known = [None if place is None else place.goal for place in places]
        outcomes = scene.whereabouts.settled(outcomes, known, paths, task)
    return outcomes


def walked(stood: Sequence[np.ndarray | None], places: Sequence[Place | None]) -> list[np.ndarray | None]:
    """Return where eyes ``stood`` and where they go from there in each frame of the coming chunk, ``(f + 1, 5)`` each;
    None where nobody knows.
    """
    return [
        None if eye is None or place is None or place.ahead is None else np.concatenate([eye[None], place.ahead.eyes])
        for eye, place in zip(stood, places, strict=True)
    ]


def moved(paths: Sequence[np.ndarray | None], frames: int) -> Tensor:
    """Return where eyes go along ``paths`` (see :func:`walked`), ``(b, f, 2)``, see
    :func:`latentcraft.model.goals.moved_by`; NaN where nobody knows.
    """
    unknown = torch.full((frames, 2), torch.nan)
    return torch.stack([unknown if path is None else moved_by(torch.from_numpy(path)) for path in paths])


def count_out(reward: Tensor, terminated: Tensor, alive: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rewards ``float32 (b, f)`` and ends ``bool (b, f)`` of chunks from the logits of them, and the chance that
    each game's task is still open after them, ``(b,)``, ``alive`` being that before.
    """
    goes_on = np.cumprod(1 - terminated.double().sigmoid().numpy(), 1) * alive[:, None]
    ended = goes_on < ENDED
    before = np.concatenate([alive[:, None], np.where(ended, 0.0, goes_on)[:, :-1]], 1)
    rewards = (expected_reward(reward).numpy() * before).astype(np.float32)
    return rewards, ended, np.where(ended[:, -1], 0.0, goes_on[:, -1])
