"""What a learning agent does in a step: one row of a table, held for the chunk.

The table is finer than :data:`latentcraft.envs.wrappers.DISCRETE_ACTIONS`, which suits any task: aiming at a trunk
needs turns of a few degrees, walking up to it turns while walking, and an explorer's recorded play has to be told in
these rows (:func:`nearest_moves`) before it can be cloned.
"""

from typing import Any

import numpy as np

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, BUTTON_INDEX, BUTTONS, PITCH, to_vector

MOVES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("noop", {}),
    ("attack", {"attack": 1}),
    ("use", {"use": 1}),
    ("forward", {"forward": 1}),
    ("jump forward", {"forward": 1, "jump": 1}),
    ("sprint", {"forward": 1, "sprint": 1}),
    ("attack forward", {"forward": 1, "attack": 1}),
    ("back", {"back": 1}),
    ("left", {"left": 1}),
    ("right", {"right": 1}),
    *((f"turn {yaw:+d}", {"camera": (0, yaw)}) for yaw in (-36, -12, -4, 4, 12, 36)),
    *((f"tilt {pitch:+d}", {"camera": (pitch, 0)}) for pitch in (-12, -4, 4, 12)),
    *((f"tilt {pitch:+d}, turn {yaw:+d}", {"camera": (pitch, yaw)}) for pitch in (-12, 12) for yaw in (-12, 12)),
    *((f"forward, turn {yaw:+d}", {"forward": 1, "camera": (0, yaw)}) for yaw in (-24, -8, 8, 24)),
)
"""Name and action of each row; the camera in degrees *per step*, whatever the number of ticks in it."""

_SAME_TURN = 12.0
"""Degrees of camera that weigh as much as a button, when the nearest row is looked for."""
_IGNORED = [BUTTON_INDEX[name] for name in BUTTONS if name.startswith("hotbar.") or name == "sneak"]
"""Buttons no row has: a chunk is not held against a row for them."""


def move_vectors(chunk: int) -> np.ndarray:
    """Return :data:`MOVES` as vectors ``float32 (k, 20)`` held for each of ``chunk`` ticks, camera a tick."""
    table = np.zeros((len(MOVES), ACTION_SIZE), np.float32)
    for row, (_, action) in enumerate(MOVES):
        pitch, yaw = action.get("camera", (0, 0))
        table[row] = to_vector({name: 1 for name in action if name != "camera"})
        table[row, PITCH:] = pitch / chunk, yaw / chunk
    return table


def held_moves(moves: np.ndarray, chunk: int) -> np.ndarray:
    """Return rows ``int (n,)`` as action vectors ``float32 (n, 20)``, to be held for each of ``chunk`` ticks.

    Raises:
        UserError: a row that does not exist.
    """
    moves = np.asarray(moves)
    if not np.issubdtype(moves.dtype, np.integer) or (moves < 0).any() or (moves >= len(MOVES)).any():
        raise UserError(f"moves must be whole numbers from 0 to {len(MOVES) - 1}, got {moves!r}")
    return move_vectors(chunk)[moves]


def nearest_moves(actions: np.ndarray) -> np.ndarray:
    """Return the row nearest to what was done in each chunk ``float32 (n, f, 20)``, as ``int64 (n,)``.

    Nearest in the share of ticks each button was held and in how far the view turned over the chunk.
    """
    f = actions.shape[1]
    done, table = actions.mean(1), move_vectors(f)
    done[:, PITCH:] *= f / _SAME_TURN
    table[:, PITCH:] *= f / _SAME_TURN
    kept = np.setdiff1d(np.arange(ACTION_SIZE), _IGNORED)
    # Turns beyond the largest row's are that row: their excess must not make any other row the nearer one.
    largest = np.abs(table[:, PITCH:]).max(0)
    done[:, PITCH:] = np.clip(done[:, PITCH:], -largest, largest)
    return np.square(done[:, None, kept] - table[None, :, kept]).sum(-1).argmin(1)
