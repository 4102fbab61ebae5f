"""Smaller action spaces for agents: the Dict of buttons and camera as MultiDiscrete or Discrete.

:data:`DISCRETE_ACTIONS` and :data:`ACTION_FACTORS` are the declared tables. Their camera turns are in units of the
wrapper's ``turn`` *per step*, whatever the number of ticks in it: an agent that turns "15 degrees" turns 15 degrees.
"""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector.utils import batch_space

from latentcraft.errors import UserError
from latentcraft.model.actions import ACTION_SIZE, CAMERA_LIMIT, PITCH, to_vector, vectors_to_batch

TURN = 15.0
"""Degrees that one turning step turns: 24 make a full circle."""

DISCRETE_ACTIONS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("noop", {}),
    ("forward", {"forward": 1}),
    ("back", {"back": 1}),
    ("left", {"left": 1}),
    ("right", {"right": 1}),
    ("turn left", {"camera": (0, -1)}),
    ("turn right", {"camera": (0, 1)}),
    ("look up", {"camera": (-1, 0)}),
    ("look down", {"camera": (1, 0)}),
    ("jump forward", {"forward": 1, "jump": 1}),
    ("sprint forward", {"forward": 1, "sprint": 1}),
    ("attack", {"attack": 1}),
    ("use", {"use": 1}),
)
"""Name and action of each number of :class:`DiscreteActions`; the camera counts turns per step."""

ACTION_FACTORS: tuple[tuple[str, tuple[dict[str, Any], ...]], ...] = (
    ("walk", ({}, {"forward": 1}, {"back": 1})),
    ("strafe", ({}, {"left": 1}, {"right": 1})),
    ("jump", ({}, {"jump": 1})),
    ("pace", ({}, {"sprint": 1}, {"sneak": 1})),
    ("hand", ({}, {"attack": 1}, {"use": 1})),
    ("hotbar", ({}, *({f"hotbar.{slot}": 1} for slot in range(1, 10)))),
    ("pitch", ({}, {"camera": (-1, 0)}, {"camera": (1, 0)})),
    ("yaw", ({}, {"camera": (0, -1)}, {"camera": (0, 1)}, {"camera": (0, -0.25)}, {"camera": (0, 0.25)})),
)
"""Factors of :class:`MultiDiscreteActions`: each number picks one entry of each factor, and they add up."""


def _table(actions: list[dict[str, Any]], turn: float, chunk: int) -> np.ndarray:
    """Return actions as vectors ``float32 (k, 20)`` with the camera in degrees per tick."""
    if not 0 < turn / chunk <= CAMERA_LIMIT:
        raise UserError(f"turn must be above 0 and at most {CAMERA_LIMIT * chunk:g} degrees a step, got {turn!r}")
    table = np.stack([to_vector(action) for action in actions]).reshape(-1, ACTION_SIZE)
    table[:, PITCH:] *= turn / chunk
    return table


def discrete_table(turn: float, chunk: int) -> np.ndarray:
    """Return :data:`DISCRETE_ACTIONS` as vectors ``float32 (13, 20)``, held for each of ``chunk`` ticks."""
    return _table([action for _, action in DISCRETE_ACTIONS], turn, chunk)


def factor_tables(turn: float, chunk: int) -> list[np.ndarray]:
    """Return :data:`ACTION_FACTORS` as vectors, ``float32 (k, 20)`` for each factor of ``k`` choices."""
    return [_table(list(choices), turn, chunk) for _, choices in ACTION_FACTORS]


def _chunk_of(env: Any) -> int:
    """Return the ticks in a step of the world environment inside ``env``."""
    inner = env.unwrapped
    if not hasattr(inner, "chunk") or getattr(inner, "per_frame_actions", True):
        raise UserError("action wrappers go around a latentcraft environment without per_frame_actions")
    return inner.chunk


class DiscreteActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """``Discrete(13)``: one number picks a row of :data:`DISCRETE_ACTIONS`."""

    def __init__(self, env: gym.Env, *, turn: float = TURN) -> None:
        """Wrap ``env``.

        Args:
            env: a :class:`~latentcraft.envs.env.WorldEnv`, wrapped or not.
            turn: degrees of a turning step.
        """
        gym.utils.RecordConstructorArgs.__init__(self, turn=turn)
        gym.ActionWrapper.__init__(self, env)
        self._table = discrete_table(turn, _chunk_of(env))
        self.action_space = spaces.Discrete(len(self._table))

    def action(self, action: Any) -> dict[str, np.ndarray]:
        """Return the dict of buttons and camera that number ``action`` stands for."""
        return vectors_to_batch(_row(self._table, action))


class MultiDiscreteActions(gym.ActionWrapper, gym.utils.RecordConstructorArgs):
    """``MultiDiscrete``: one number for each factor of :data:`ACTION_FACTORS`."""

    def __init__(self, env: gym.Env, *, turn: float = TURN) -> None:
        """Wrap ``env``.

        Args:
            env: a :class:`~latentcraft.envs.env.WorldEnv`, wrapped or not.
            turn: degrees of a full turn or look; the two last choices of yaw are a quarter of it, to aim.
        """
        gym.utils.RecordConstructorArgs.__init__(self, turn=turn)
        gym.ActionWrapper.__init__(self, env)
        self._tables = factor_tables(turn, _chunk_of(env))
        self.action_space = spaces.MultiDiscrete([len(table) for table in self._tables])

    def action(self, action: Any) -> dict[str, np.ndarray]:
        """Return the dict of buttons and camera that the numbers ``(8,)`` stand for."""
        return vectors_to_batch(_sum_of_rows(self._tables, action))


class VectorDiscreteActions(gym.vector.VectorActionWrapper):
    """:class:`DiscreteActions` for a vector environment: actions ``int (n,)``."""

    def __init__(self, env: gym.vector.VectorEnv, *, turn: float = TURN) -> None:
        """Wrap ``env``, a :class:`~latentcraft.envs.vector.WorldVectorEnv`; ``turn`` in degrees a step."""
        super().__init__(env)
        self._table = discrete_table(turn, _chunk_of(env))
        self.single_action_space = spaces.Discrete(len(self._table))
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: Any) -> dict[str, np.ndarray]:
        """Return the batched dict that the numbers ``(n,)`` stand for."""
        return vectors_to_batch(_row(self._table, actions))


class VectorMultiDiscreteActions(gym.vector.VectorActionWrapper):
    """:class:`MultiDiscreteActions` for a vector environment: actions ``int (n, 8)``."""

    def __init__(self, env: gym.vector.VectorEnv, *, turn: float = TURN) -> None:
        """Wrap ``env``, a :class:`~latentcraft.envs.vector.WorldVectorEnv`; ``turn`` in degrees a step."""
        super().__init__(env)
        self._tables = factor_tables(turn, _chunk_of(env))
        self.single_action_space = spaces.MultiDiscrete([len(table) for table in self._tables])
        self.action_space = batch_space(self.single_action_space, self.num_envs)

    def actions(self, actions: Any) -> dict[str, np.ndarray]:
        """Return the batched dict that the numbers ``(n, 8)`` stand for."""
        return vectors_to_batch(_sum_of_rows(self._tables, actions))


def _row(table: np.ndarray, action: Any) -> np.ndarray:
    """Pick rows of ``table`` ``(k, 20)`` by numbers ``(...)``; returns ``(..., 20)``."""
    numbers = np.asarray(action)
    if not np.issubdtype(numbers.dtype, np.integer) or (numbers < 0).any() or (numbers >= len(table)).any():
        raise UserError(f"action must be whole numbers from 0 to {len(table) - 1}, got {action!r}")
    return table[numbers]


def _sum_of_rows(tables: list[np.ndarray], action: Any) -> np.ndarray:
    """Pick a row of each table by numbers ``(..., len(tables))`` and add them; returns ``(..., 20)``."""
    numbers = np.asarray(action)
    if numbers.shape[-1:] != (len(tables),):
        raise UserError(f"action must have {len(tables)} numbers, got shape {numbers.shape}")
    return np.sum([_row(table, numbers[..., factor]) for factor, table in enumerate(tables)], axis=0)
