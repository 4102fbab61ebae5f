"""The Gymnasium space of actions, and how an action dict becomes a chunk of action vectors.

An environment step is one chunk of ``f`` ticks. By default the action is *held*: the same buttons and the same camera
speed at each of the ``f`` ticks, so ``camera=(0, 5)`` turns 20 degrees in a step of 4 ticks. With
``per_frame_actions`` every leaf of the space gets a leading axis ``f`` instead: one action for each tick.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from latentcraft.errors import UserError
from latentcraft.model.actions import BUTTONS, CAMERA_LIMIT, batch_to_vectors


def action_space(chunk: int, *, per_frame: bool = False) -> spaces.Dict:
    """Return the dict space of one game: ``Discrete(2)`` a button and ``camera`` in degrees per tick.

    Args:
        chunk: ticks in a step, ``f``.
        per_frame: one action per tick (each leaf batched ``f`` times) instead of one held action.
    """
    space = spaces.Dict(
        {
            **{name: spaces.Discrete(2) for name in BUTTONS},
            "camera": spaces.Box(-CAMERA_LIMIT, CAMERA_LIMIT, (2,), np.float32),
        }
    )
    return cast(spaces.Dict, batch_space(space, chunk)) if per_frame else space


def chunk_actions(action: Mapping[str, Any], num_worlds: int | None, chunk: int, *, per_frame: bool) -> np.ndarray:
    """Turn an action of the space (or of its batch) into what a world takes.

    Args:
        action: dict of buttons and camera; absent keys are 0.
        num_worlds: batch ``b`` of a vector environment, None for the action of a single one.
        chunk: ticks in a step, ``f``.
        per_frame: whether leaves have an axis ``f``.

    Returns:
        ``float32 (b, f, 20)``, ``b`` = 1 for a single environment.

    Raises:
        UserError: an unknown key, a wrong shape or value.
    """
    if not isinstance(action, Mapping):
        raise UserError(f"an action is a dict of buttons and camera, got {type(action).__name__}; see envs.wrappers")
    batch = () if num_worlds is None else (num_worlds,)
    vectors = batch_to_vectors(action, (*batch, chunk) if per_frame else batch)
    if not per_frame:
        vectors = np.repeat(vectors[..., None, :], chunk, axis=-2)
    return vectors[None] if num_worlds is None else vectors
