"""The player's actions: one module owns the mapping dict <-> vector.

Names are MineRL's / VPT's (arXiv 2206.11795). An *action vector* is ``float32 (20,)``: 18 buttons as 0 or 1 in the
order of :data:`BUTTONS`, then the camera as (pitch, yaw) in degrees per tick. Pitch is positive downward, yaw is
positive to the right, as in Minecraft. Everything above (environments, keyboards, scripts, policies, episodes)
converts to and from it here; everything below sees vectors only.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from latentcraft.errors import UserError

HOTBAR_SLOTS = 9
BUTTONS: tuple[str, ...] = (
    "forward", "back", "left", "right", "jump", "sneak", "sprint", "attack", "use",
    *(f"hotbar.{slot}" for slot in range(1, HOTBAR_SLOTS + 1)),
)  # fmt: skip
NUM_BUTTONS = len(BUTTONS)
BUTTON_INDEX = {name: index for index, name in enumerate(BUTTONS)}
CHANGES: tuple[str, ...] = ("dug", "placed")
"""What a hand may do to the world in a tick: something broke under it, or it put something there. Where it did is told
by *spots*: the lower corners (x, y, z) of the blocks, in metres."""
PITCH, YAW = NUM_BUTTONS, NUM_BUTTONS + 1
ACTION_SIZE = NUM_BUTTONS + 2
CAMERA_LIMIT = 30.0
"""Largest camera turn, degrees per tick and axis; larger requests are clipped (VPT clips its camera bins likewise)."""


def noop(*shape: int) -> np.ndarray:
    """Return action vectors that do nothing, ``float32 (*shape, 20)``."""
    return np.zeros((*shape, ACTION_SIZE), np.float32)


def to_vector(action: Mapping[str, Any]) -> np.ndarray:
    """Turn ``{"forward": 1, "camera": (pitch, yaw), ...}`` into a vector ``float32 (20,)``; absent keys are 0.

    Raises:
        UserError: an unknown key, a camera that is not two finite numbers, a button that is not 0 or 1.
    """
    vector = noop()
    for key, value in action.items():
        if key == "camera":
            try:
                camera = np.asarray(value, np.float32)
            except (TypeError, ValueError):
                camera = np.full(0, np.nan)
            if camera.shape != (2,) or not np.isfinite(camera).all():
                raise UserError(f"camera must be two finite numbers (pitch, yaw) in degrees, got {value!r}")
            vector[PITCH:] = np.clip(camera, -CAMERA_LIMIT, CAMERA_LIMIT)
        elif key in BUTTON_INDEX:
            if value not in (0, 1):
                raise UserError(f"button {key!r} must be 0 or 1, got {value!r}")
            vector[BUTTON_INDEX[key]] = value
        else:
            raise UserError(f"unknown action {key!r}; known: {', '.join(BUTTONS)}, camera")
    return vector


def batch_to_vectors(action: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Turn a dict of arrays into vectors ``float32 (*shape, 20)``; absent keys are 0.

    Args:
        action: buttons as arrays of 0 and 1 of ``shape``, ``camera`` as ``(*shape, 2)`` degrees per tick.
        shape: leading axes, for instance ``(b,)`` or ``(b, f)``; ``()`` for one action.

    Raises:
        UserError: an unknown key, a wrong shape, a button that is not 0 or 1, a camera that is not finite.
    """
    vectors = noop(*shape)
    for key, value in action.items():
        values = np.asarray(value)
        expected = (*shape, 2) if key == "camera" else shape
        if key != "camera" and key not in BUTTON_INDEX:
            raise UserError(f"unknown action {key!r}; known: {', '.join(BUTTONS)}, camera")
        if values.shape != expected:
            raise UserError(f"action {key!r} must have shape {expected}, got {values.shape}")
        if key == "camera":
            if not np.isfinite(values).all():
                raise UserError(
                    f"camera must be finite (pitch, yaw) in degrees, got {_first(values, np.isfinite(values))}"
                )
            vectors[..., PITCH:] = np.clip(values, -CAMERA_LIMIT, CAMERA_LIMIT)
        else:
            right = (values == 0) | (values == 1)
            if not right.all():
                raise UserError(f"button {key!r} must be 0 or 1, got {_first(values, right)}")
            vectors[..., BUTTON_INDEX[key]] = values
    return vectors


def _first(values: np.ndarray, right: np.ndarray) -> str:
    """Say in one line which of ``values`` is the first that is not ``right``."""
    at = tuple(map(int, np.argwhere(~right)[0]))
    return f"{values.item(*at)!r}" + (f" at {list(at)}" if at else "")


def vectors_to_batch(vectors: np.ndarray) -> dict[str, np.ndarray]:
    """Turn vectors ``(..., 20)`` into a dict of arrays: buttons ``int64 (...)``, ``camera`` ``float32 (..., 2)``."""
    action = {name: (vectors[..., index] > 0.5).astype(np.int64) for index, name in enumerate(BUTTONS)}
    action["camera"] = np.array(vectors[..., PITCH:], np.float32)
    return action


def check_vectors(actions: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return ``actions`` as ``float32 shape`` with buttons rounded to 0/1 and the camera clipped.

    Raises:
        UserError: wrong shape, NaN or infinity.
    """
    actions = np.asarray(actions, np.float32)
    if actions.shape != shape:
        raise UserError(f"actions must have shape {shape} (..., {ACTION_SIZE}), got {actions.shape}")
    if not np.isfinite(actions).all():
        raise UserError("actions contain NaN or infinity; every entry must be finite")
    checked = (actions > 0.5).astype(np.float32)
    checked[..., PITCH:] = np.clip(actions[..., PITCH:], -CAMERA_LIMIT, CAMERA_LIMIT)
    return checked
